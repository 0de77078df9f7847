"use strict";
const by = (name) => document.getElementById(name);
const status = document.querySelector(".status");
const MOST_CLASSES = 10;
const MOST_ANSWERS = 100;

async function about() {
  const model = await (await fetch("about")).json();
  by("model").textContent = model.model;
  document.title = `${model.model}: what the model says`;
  const count = model.classes.length;
  const named = model.classes.slice(0, MOST_CLASSES).join(", ") + (count > MOST_CLASSES ? ", ..." : "");
  by("about").textContent = `${count} classes: ${named}. ${model.input} x ${model.input} pixels, ${model.format}.`;
}

function row(name, probability) {
  const line = document.createElement("tr");
  const head = line.appendChild(document.createElement("th"));
  head.scope = "row";
  head.textContent = name;
  const cell = line.appendChild(document.createElement("td"));
  const bar = cell.appendChild(document.createElement("progress"));
  bar.value = probability;
  bar.setAttribute("aria-label", name);
  cell.appendChild(document.createElement("span")).textContent = probability.toFixed(3);
  return line;
}

function show(file, said) {
  const card = by("answer").content.cloneNode(true).firstElementChild;
  const photo = card.querySelector(".photo");
  photo.alt = file.name;
  photo.onload = photo.onerror = () => URL.revokeObjectURL(photo.src);
  card.querySelector(".name").textContent = file.name;
  const head = card.querySelector("h2");
  if (said.error) {
    card.classList.add("failed");
    photo.remove();
    head.textContent = `No answer: ${said.error}`;
  } else {
    photo.src = URL.createObjectURL(file);
    head.textContent = said.label || "none of the classes";
    const doubt = card.querySelector(".doubt");
    doubt.hidden = !said.doubt;
    doubt.textContent = said.doubt || "";
    const ordered = Object.entries(said.probabilities).sort((one, other) => other[1] - one[1]);
    card.querySelector("tbody").append(...ordered.slice(0, MOST_CLASSES).map(([name, value]) => row(name, value)));
    const map = card.querySelector(".map");
    if (said.heatmap) {
      map.hidden = false;
      map.alt = `where the model looks in ${file.name}`;
      map.src = `data:image/png;base64,${said.heatmap}`;
    } else if (said.heatmap_error) {
      card.querySelector(".name").textContent += ` (no map: ${said.heatmap_error})`;
    }
  }
  const answers = by("answers");
  answers.prepend(card);
  while (answers.children.length > MOST_ANSWERS) answers.lastElementChild.remove();
}

async function ask(file) {
  const wishes = ["heatmap", "tiles"].filter((name) => by(name).checked).map((name) => `${name}=1`);
  try {
    for (;;) {
      const answer = await fetch(`predict?${wishes.join("&")}`, {
        method: "POST",
        headers: { "Content-Type": "application/octet-stream" },
        body: file,
      });
      const wait = answer.headers.get("Retry-After"); // too many at once, or in a minute
      if (!wait) return await answer.json();
      status.textContent = `${file.name} waits: ${(await answer.json()).error}`;
      await new Promise((resolve) => setTimeout(resolve, 1000 * wait));
    }
  } catch (error) {
    return { error: `the server does not answer (${error.message})` };
  }
}

let queue = Promise.resolve();
function take(files) {
  for (const file of files)
    queue = queue.then(async () => {
      status.textContent = `Looking at ${file.name} ...`;
      show(file, await ask(file));
      status.textContent = "";
    });
  return queue;
}

by("files").addEventListener("change", (event) => {
  take([...event.target.files]).then(() => (event.target.value = ""));
});
const drop = document.querySelector(".drop");
for (const kind of ["dragover", "dragleave", "drop"])
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", kind === "dragover");
    if (kind === "drop") take([...event.dataTransfer.files]);
  });
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
about();

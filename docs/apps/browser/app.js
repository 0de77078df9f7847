// Beside this file: model.onnx and deployment.json of an export, and of the package onnxruntime-web
// ort.wasm.min.mjs, ort-wasm-simd-threaded.mjs and ort-wasm-simd-threaded.wasm.
import * as ort from "./ort.wasm.min.mjs";

ort.env.wasm.numThreads = 1; // more need a page that is cross-origin isolated

const info = await (await fetch("deployment.json")).json();
if (!["bilinear", "area"].includes(info.resize)) throw new Error(`resizing as in ${info.resize} is not written here`);
const model = await ort.InferenceSession.create(info.model);

// The pixels that the model was trained on: the same arithmetic in the same order, in float32.
const f = Math.fround;

/** Which pixels of a side of the photograph make each pixel of the input, and by what part: lists of [pixel, part]. */
function sources(length) {
  const side = info.input_size;
  return Array.from({ length: side }, (_, at) => {
    if (info.resize === "area" && length > side) {
      const [start, end] = [at * (length / side), (at + 1) * (length / side)];
      const taps = [];
      for (let pixel = Math.floor(start); pixel < Math.min(end, length); pixel++)
        taps.push([pixel, f((Math.min(end, pixel + 1) - Math.max(start, pixel)) * (side / length))]);
      return taps;
    }
    const place = f(f(at + 0.5) * f(f(length) / f(side)));
    const low = Math.floor(f(place - 0.5));
    const upper = f(f(place - 0.5) - low);
    const inside = (pixel) => Math.min(Math.max(pixel, 0), length - 1);
    return [[inside(low), f(1 - upper)], [inside(low + 1), upper]];
  });
}

/** uint8 (1, side, side, 3), RGB, of decoded pixels RGBA. */
export function resized({ data, width, height }) {
  const side = info.input_size;
  const [down, across] = [sources(height), sources(width)];
  const pixels = new Uint8Array(side * side * 3);
  const row = new Float32Array(width * 3);
  for (let y = 0; y < side; y++) {
    row.fill(0);
    for (const [from, part] of down[y])
      for (let x = 0; x < width; x++)
        for (let channel = 0; channel < 3; channel++)
          row[x * 3 + channel] += f(data[(from * width + x) * 4 + channel] * part);
    for (let x = 0; x < side; x++)
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (const [from, part] of across[x]) sum = f(sum + f(row[from * 3 + channel] * part));
        pixels[(y * side + x) * 3 + channel] = Math.floor(f(sum + 0.5));
      }
  }
  return pixels;
}

/** Decoded pixels RGBA of a file, turned upright; what is transparent shows a white page. */
async function decoded(file) {
  const photo = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const canvas = new OffscreenCanvas(photo.width, photo.height);
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  pen.fillStyle = "white";
  pen.fillRect(0, 0, photo.width, photo.height);
  pen.drawImage(photo, 0, 0);
  return pen.getImageData(0, 0, photo.width, photo.height);
}

/** Label, whether it is sure, and the probability of each class in the order of info.labels. */
export async function classify(file) {
  const side = info.input_size;
  const input = new ort.Tensor("uint8", resized(await decoded(file)), [1, side, side, 3]);
  const answer = await model.run({ [model.inputNames[0]]: input });
  let probabilities = [...answer[model.outputNames[0]].data];
  if (info.task === "binary") {
    const [positive] = probabilities;
    probabilities = info.labels.map((name) => (name === info.positive ? positive : 1 - positive));
    const yes = positive >= info.threshold;
    const label = info.labels.find((name) => (name === info.positive) === yes);
    return { label, sure: (yes ? positive : 1 - positive) >= info.sure_from, probabilities };
  }
  if (info.task === "multiclass") {
    const largest = Math.max(...probabilities);
    return { label: info.labels[probabilities.indexOf(largest)], sure: largest >= info.sure_from, probabilities };
  }
  const found = probabilities.map((one) => one >= info.threshold);
  const surest = Math.min(...probabilities.map((one, at) => (found[at] ? one : 1 - one)));
  return { label: info.labels.filter((_, at) => found[at]).join(";"), sure: surest >= info.sure_from, probabilities };
}

const [status, picture] = [document.querySelector("[role=status]"), document.querySelector("img")];
document.querySelector("input").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  picture.src = URL.createObjectURL(file);
  picture.hidden = false;
  try {
    const { label, sure, probabilities } = await classify(file);
    const figures = info.labels.map((name, at) => `${name} ${probabilities[at].toFixed(3)}`).join(", ");
    status.textContent = `${label || "none of the classes"}${sure ? "" : " (unsure)"}: ${figures}`;
  } catch (error) {
    status.textContent = `This photograph cannot be used: ${error.message}`;
  }
});
status.textContent = "Ready.";

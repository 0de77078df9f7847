"""The board's page in a real browser: no errors, no requests, and what readers do with it works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_chromium import after, chromium, needs_chromium, scrolled, serious

from benchmark.reporting import Extras, pick_errors, write_page

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def make_page(
    make_results: Callable[[int], Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], Path]:
    def make(count: int) -> Path:
        board, outcomes, truth = make_results(count)
        errors = pick_errors(board, outcomes, truth)
        extras = Extras(title="walls", facts={"seed": "0"}, source="my photos/walls", errors=errors)
        return write_page(board, extras, tmp_path_factory.mktemp("page"))

    return make


@pytest.fixture(scope="module")
def page(make_page: Callable[[int], Path]) -> Path:
    return make_page(52)


def test_headings_sort_and_say_so(page: Path) -> None:
    click = 'document.querySelector(".c-size_bytes button").click();'
    order = '[...document.querySelectorAll(".board tbody tr")].map(row => row.cells[1].textContent)'
    says = 'document.querySelector(".tools [role=status]").textContent'
    first, told = after(page, f"{click}{click} return [{order}, {says}];")
    assert first == [f"MobileNet_{number}" for number in reversed(range(52))]
    assert told == "sorted by size, descending"


def test_the_filter_finds_names_and_says_how_many(page: Path) -> None:
    script = """
        const box = document.querySelector("input[type=search]");
        box.value = " NET_5"; box.dispatchEvent(new Event("input"));
        const shown = [...document.querySelectorAll(".board tbody tr")].filter(row => row.offsetHeight > 0);
        const told = document.querySelector("[role=status]").textContent;
        return [shown.map(row => row.cells[1].textContent), told];
    """
    names, told = after(page, script)
    assert names == ["MobileNet_5", "MobileNet_50", "MobileNet_51"]
    assert told == "3 of 52"


def test_columns_come_and_go(page: Path) -> None:
    script = """
        const shown = name => getComputedStyle(document.querySelector(`th.c-${name}`)).display !== "none";
        const before = [shown("engine"), shown("test_recall")];
        for (const label of document.querySelectorAll("fieldset label"))
            if (["engine", "recall"].includes(label.textContent.trim())) label.querySelector("input").click();
        return [before, [shown("engine"), shown("test_recall")]];
    """
    assert after(page, script) == [[False, True], [True, False]]


def test_the_chart_has_every_backbone_and_is_read_with_the_keyboard(page: Path) -> None:
    script = """
        const points = [...document.querySelectorAll(".chart g[tabindex]")];
        points[0].focus();
        const radios = [...document.querySelectorAll(".chart label")].filter(label => !label.hidden).length;
        return [points.length, document.querySelector(".chart output").textContent, radios];
    """
    count, told, radios = after(page, script)
    assert count == 52
    assert told == "MobileNet_0: 0.970 [0.940, 0.990], 1 MB (winner, best score)"
    assert radios == 1, "nobody timed single images"


def test_the_pick_says_why_and_what_to_do_next(page: Path) -> None:
    script = 'return document.querySelector(".picks .winner").innerText'
    told = after(page, script)
    assert "No smaller one is sure to give away little; itself at most 0.021 F1 to the best" in told
    assert "backbones finetune 'my photos/walls' --winner MobileNet_0" in told


def test_the_errors_of_the_pick_are_drawn_without_a_script_and_read_aloud(page: Path) -> None:
    script = """
        const part = document.querySelector("section.erring"), drawing = part.querySelector("svg");
        const ends = box => [box.left, box.right, box.top, box.bottom];
        const [left, right, top, bottom] = ends(drawing.getBoundingClientRect());
        const inside = [...drawing.querySelectorAll("text, circle, polyline")].every(one => {
            const [l, r, t, b] = ends(one.getBoundingClientRect());
            return l >= left - 1 && r <= right + 1 && t >= top - 1 && b <= bottom + 1;
        });
        return [part.querySelector("h3").innerText, drawing.getAttribute("aria-label"), inside,
            drawing.querySelector(".marked").textContent, part.querySelector(".confusion").innerText];
    """
    heading, aloud, inside, mark, table = after(page, script)
    assert heading == "MobileNet_0 winner and best score"
    assert aloud.startswith("Precision and recall")
    assert inside
    assert mark == "threshold 0.5"
    assert "called cracked" in table
    assert "%" in table
    assert "<svg viewBox" in page.read_text().partition('class="erring"')[2], "there before any script runs"


@pytest.mark.parametrize("width", [390, 1280])
def test_only_tables_scroll_sideways(page: Path, width: int) -> None:
    name = 'inner.querySelector(".board tbody .c-backbone").getBoundingClientRect().height'
    wide, height = scrolled(page, width, f"return {name};")
    assert wide <= width
    assert height < 80, "a column of single letters"


@pytest.mark.parametrize("width", [390, 1280])
def test_the_chart_is_read_at_any_width(page: Path, width: int) -> None:
    script = """
        const drawing = inner.querySelector(".chart svg");
        const texts = [...drawing.querySelectorAll("text[text-anchor=middle]")];
        const costs = texts.map(one => one.getBoundingClientRect());
        const apart = costs.every((one, at) => !at || costs[at - 1].right < one.left);
        return [drawing.getScreenCTM().a, costs.length, apart];
    """
    _, (scale, count, apart) = scrolled(page, width, script)
    assert scale == pytest.approx(1, abs=0.02), "numbers as large as they are meant"
    assert count > 1
    assert apart


@pytest.mark.parametrize("count", [1, 3, 1850])
def test_boards_of_any_size_open_without_an_error(make_page: Callable[[int], Path], count: int) -> None:
    page = make_page(count)
    rows = after(page, 'return document.querySelectorAll(".board tbody tr").length')
    assert rows == count
    assert page.stat().st_size < 4e6


def test_the_page_prints(page: Path) -> None:
    target = page.with_name("board.pdf")
    chromium(page, f"--print-to-pdf={target}", "--no-pdf-header-footer")
    assert target.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Path, scheme: str) -> None:
    assert serious(page, scheme) == []

"""The report page in headless Chromium: ``make test-browser``. Ordinary tests need no browser and pass this over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

from segscale.bench.report.evaluated import EvaluatedRun, Evaluation
from segscale.bench.report.page.render import write_page
from segscale.bench.runs.masks import label_path, mask_path, picture_path, write_label_map

from .bench.test_comparison import IMAGES, stored

NAMES = ("worst", "middle", "best", "method-9", "method-10")
PHONE, DESKTOP = 390, 1280


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of five methods, each better than the one before, and of the best on four more backbones."""
    results = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(0)
    shares = rng.uniform(0.3, 0.6, IMAGES)
    runs = [
        stored(results, shares + 0.05 * place + rng.normal(0, 0.02, IMAGES), name) for place, name in enumerate(NAMES)
    ]
    runs = [sized(run, "b", 9) for run in runs]
    runs += [
        sized(stored(results, shares, "best", seed), f"backbone-of-a-long-name-{seed}", size)
        for seed, size in enumerate((10, 11, 25, 30), 1)
    ]
    keep_masks(results / "runs/b/best/d" / runs[NAMES.index("best")].run.run_id)
    return write_page(Evaluation(runs, 0), results / "report.html")


def keep_masks(folder: Path) -> None:
    """Of two images, as a run keeps them."""
    for image in ("first", "second/part"):
        for path in (mask_path(folder, image), label_path(folder, image)):
            path.parent.mkdir(exist_ok=True)
            write_label_map(path, np.eye(8, dtype=np.uint8), ((0, 0, 0), (200, 0, 0), (0, 200, 0)))
        Image.new("RGB", (8, 8), "white").save(picture_path(folder, image))


def sized(run: EvaluatedRun, name: str, size: int) -> EvaluatedRun:
    """The run on a backbone of so many million parameters."""
    plan = replace(run.plan, backbone=replace(run.plan.backbone, name=name), seed=0)
    return replace(run, run=replace(run.run, plan=plan, parameters=10**6 * size))


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome, path: Path) -> Iterator[webdriver.Chrome]:
    """The page as first opened; whatever a test does, nothing is requested and no error is logged."""
    show(chromium, DESKTOP)
    chromium.get(path.as_uri())
    yield chromium
    assert chromium.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in chromium.get_log("performance")]
    requested = {m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"}
    assert {url.partition("#")[0] for url in requested if not url.startswith("data:")} <= {path.as_uri()}


def show(driver: webdriver.Chrome, width: int) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def by_id(browser: webdriver.Chrome, id: str) -> WebElement:
    return browser.find_element(By.ID, id)


def cells(browser: webdriver.Chrome, table: str) -> list[list[str]]:
    """The texts of the visible rows."""
    rows = browser.find_elements(By.CSS_SELECTOR, f"#{table} tbody tr")
    return [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows if row.is_displayed()]


def names(browser: webdriver.Chrome) -> list[str]:
    return [row[0] for row in cells(browser, "leaderboard")]


def choose(browser: webdriver.Chrome, filter: str, value: str) -> None:
    Select(by_id(browser, "filters").find_element(By.NAME, filter)).select_by_visible_text(value)


def heading(browser: webdriver.Chrome, title: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//table[@id='leaderboard']//th[button[text()='{title}']]")


def data(browser: webdriver.Chrome) -> dict[str, Any]:
    return json.loads(by_id(browser, "page-data").get_attribute("textContent") or "")


def signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def test_a_heading_sorts_by_mouse_and_by_keyboard(browser: webdriver.Chrome) -> None:
    choose(browser, "backbone", "b")
    assert names(browser) == [*NAMES[::-1]]
    method, miou = heading(browser, "method"), heading(browser, "mIoU [95 %]")
    method.find_element(By.TAG_NAME, "button").click()
    assert names(browser) == ["best", "method-9", "method-10", "middle", "worst"]
    assert method.get_attribute("aria-sort") == "ascending"
    miou.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert names(browser) == [*NAMES[::-1]]
    miou.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert names(browser) == [*NAMES]
    assert (method.get_attribute("aria-sort"), miou.get_attribute("aria-sort")) == ("none", "ascending")


def test_rows_are_chosen_by_value_and_by_words(browser: webdriver.Chrome) -> None:
    filters = by_id(browser, "filters")
    choose(browser, "method", "best")
    assert names(browser) == ["best"] * 5
    choose(browser, "backbone", "b")
    assert by_id(browser, "shown").text == "1 of 9 runs"
    filters.find_element(By.CSS_SELECTOR, "[type=reset]").click()
    assert by_id(browser, "shown").text == "9 of 9 runs"
    filters.find_element(By.NAME, "search").send_keys("VAL method-")
    assert names(browser) == ["method-10", "method-9"]


def test_the_slider_moves_the_numbers(browser: webdriver.Chrome) -> None:
    first = data(browser)["runs"][0]
    slider = by_id(browser, "threshold")
    assert slider.get_attribute("value") == "0"
    before = cells(browser, "threshold-table")[0]
    assert before[1] == f"{first['curve'][0]:.1f}"
    assert before[2] == first["text"]
    line = by_id(browser, "threshold-line").get_attribute("d")
    by_id(browser, "follow-slider").click()
    slider.send_keys(Keys.ARROW_RIGHT)
    assert by_id(browser, "threshold-value").text == slider.get_attribute("aria-valuetext") == "0.5"
    assert cells(browser, "threshold-table")[0][1] == f"{first['curve'][1]:.1f}"
    assert by_id(browser, "threshold-line").get_attribute("d") != line
    shown = [row[1] for row in cells(browser, "class-table")]
    assert shown == [f"{curve[1]:.1f}" for curve in first["class_curves"]]


def test_runs_are_compared_as_they_are_chosen(browser: webdriver.Chrome) -> None:
    content = data(browser)
    matrix = cells(browser, "comparison-table")
    (group,) = [group for group in content["groups"] if group["name"] == "methods on b"]
    assert [row[0] for row in matrix] == [content["runs"][place]["method"] for place in group["runs"]]
    stated = group["differences"][0]
    assert [stated["run"], stated["reference"]] == group["runs"][:2]
    above, below = matrix[0][2].splitlines(), matrix[1][1].splitlines()
    value, low, high = (stated[name] for name in ("value", "low", "high"))
    assert above[:2] == [signed(value), f"[{signed(low)}, {signed(high)}]"]
    assert below[:2] == [signed(-value), f"[{signed(-high)}, {signed(-low)}]"]
    by_id(browser, "detail-runs").find_elements(By.TAG_NAME, "input")[0].click()
    assert len(cells(browser, "comparison-table")) == len(cells(browser, "threshold-table")) == 4
    assert len(cells(browser, "class-table")[0]) == 5
    Select(by_id(browser, "detail-group")).select_by_visible_text("backbones with worst")
    assert cells(browser, "comparison-table") == [["b", "\N{EN DASH}"]]


def test_the_gallery_steps_through_images_and_fades_masks(browser: webdriver.Chrome) -> None:
    chosen = Select(by_id(browser, "gallery-image"))
    assert [option.text for option in chosen.options] == ["first", "second/part"]
    captions = [each.text for each in browser.find_elements(By.CSS_SELECTOR, "#gallery-tiles figcaption")]
    assert captions == ["image", "label", "best"]
    by_id(browser, "gallery-next").click()
    assert chosen.first_selected_option.text == "second/part"
    by_id(browser, "gallery-opacity").send_keys(Keys.HOME)
    masks = browser.find_elements(By.CSS_SELECTOR, "#gallery-tiles .mask")
    assert [mask.value_of_css_property("opacity") for mask in masks] == ["0", "0"]
    assert browser.execute_script(
        "return [...document.querySelectorAll('#gallery-tiles img')].every((each) => each.naturalWidth === 8)"
    )
    assert (
        by_id(browser, "gallery-legend")
        .find_elements(By.CLASS_NAME, "swatch")[1]
        .value_of_css_property("background-color")
        .startswith("rgba(200, 0, 0")
    )
    Select(by_id(browser, "detail-group")).select_by_visible_text("backbones with worst")
    assert not by_id(browser, "gallery").is_displayed()


def test_a_run_leads_to_its_provenance(browser: webdriver.Chrome) -> None:
    browser.find_element(By.CSS_SELECTOR, "#leaderboard tbody tr:last-child a").click()
    identity = data(browser)["runs"][-1]["id"]
    opened = browser.find_element(By.CSS_SELECTOR, "details[open] details[open]")
    assert (opened.get_attribute("id") or "").startswith("run-")
    assert len(identity) == 12
    assert '"sites": [' in opened.find_element(By.TAG_NAME, "pre").text


def test_every_control_is_reached_by_tab_and_shows_its_focus(browser: webdriver.Chrome) -> None:
    controls = browser.execute_script(
        "return [...document.querySelectorAll('a, button, select, input, summary, .scroll')]"
        ".filter((each) => each.checkVisibility()).length"
    )
    reached: set[str] = set()
    for _ in range(controls):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none"
        reached.add(browser.switch_to.active_element.id)
    assert len(reached) == controls


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
def test_nothing_overlaps_or_leaves_the_page(browser: webdriver.Chrome, width: int) -> None:
    show(browser, width)
    browser.refresh()
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for figure in ("scaling-figure", "threshold-figure"):
        boxes = browser.execute_script(
            "const box = (node) => node.getBoundingClientRect().toJSON();"
            f"const svg = document.getElementById('{figure}');"
            "return [box(svg), ...[...svg.querySelectorAll('text')].map(box)]"
        )
        whole, *texts = boxes
        assert len(texts) > 6
        assert all(whole["left"] <= text["left"] and text["right"] <= whole["right"] for text in texts)
        assert not [pair for pair in combinations(texts, 2) if overlap(*pair)]


def overlap(first: dict[str, float], second: dict[str, float]) -> bool:
    apart = first["right"] <= second["left"] or second["right"] <= first["left"]
    return not (apart or first["bottom"] <= second["top"] or second["bottom"] <= first["top"])


def test_the_dark_page_is_dark(browser: webdriver.Chrome) -> None:
    def lightness() -> int:
        colour = browser.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
        return sum(int(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])

    light = lightness()
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    assert lightness() < 150 < light
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})

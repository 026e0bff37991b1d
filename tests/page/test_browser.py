import csv
from itertools import pairwise

from playwright.sync_api import expect

PHONE = {"width": 360, "height": 740}


def first_caption(samples):
    with (samples / "scenes" / "captions.csv").open(encoding="utf-8") as file:
        return next(csv.DictReader(file))


def test_words_find_pictures_with_prompts_and_without(server, page, samples, shots):
    row = first_caption(samples)
    page.set_viewport_size({"width": 900, "height": 640})
    page.goto(server.url)
    expect(page.locator("#search-about")).to_contain_text("48 images, model committed:retrieval")
    page.get_by_label("Words").fill(row["caption"])
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("status").first).to_contain_text("Task: tool (confidence 0.")
    for side in ("#with", "#without"):
        expect(page.locator(f"{side} img")).to_have_count(12)
    assert page.locator("#with img").first.get_attribute("alt") == row["image"]
    for image in page.locator(".hits img").all():
        expect(image).not_to_have_js_property("naturalWidth", 0)
    page.screenshot(path=shots / "page_search.png")
    assert all(url.startswith((server.url, "data:", "blob:")) for url in page.asked), page.asked


def test_a_task_limits_what_is_found(server, page):
    page.goto(server.url)
    page.get_by_label("Words").fill("a dog")
    page.get_by_label("Task").select_option("animal")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#with li").first).to_contain_text("animal")


def test_a_picture_is_uploaded_and_finds_itself(server, page, samples):
    page.goto(server.url)
    page.get_by_label("Like this picture").set_input_files(samples / "scenes" / "food-1.png")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#with figcaption").first).to_have_text("1.00 food food-1.png")


def test_a_thing_is_located_with_a_box_around_it(server, page, samples, shots):
    page.set_viewport_size({"width": 900, "height": 640})
    page.goto(server.url)
    page.get_by_label("Picture", exact=True).set_input_files(samples / "stickers" / "tool-0.png")
    page.get_by_label("What to look for").fill("the shower in an orange ring on a red card")
    page.get_by_role("button", name="Locate").click()
    status = page.get_by_role("status").nth(1)
    expect(status).to_contain_text("Task: tool")
    left, top, right, bottom = (
        float(word.strip(",.")) for word in status.inner_text().partition("Found at ")[2].split(" (")[0].split()
    )
    picture, box = page.locator("#picture").bounding_box(), page.locator("#box").bounding_box()
    scale = picture["width"] / 96
    for shown, found in ((box["x"] - picture["x"], left), (box["y"] - picture["y"], top), (box["width"], right - left)):
        assert abs(shown - scale * found) < scale, (shown, scale * found)
    assert abs(box["height"] - scale * (bottom - top)) < scale
    expect(page.locator("#box-frozen")).to_be_visible()
    page.locator("#locate").screenshot(path=shots / "page_locate.png")


def test_a_wrong_file_is_told_and_the_page_goes_on(server, page, samples, tmp_path):
    (tmp_path / "script.png").write_text("<script>alert(1)</script>")
    page.goto(server.url)
    page.get_by_label("Like this picture").set_input_files(tmp_path / "script.png")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("status").first).to_contain_text("cannot be decoded")
    page.get_by_label("Like this picture").set_input_files(samples / "scenes" / "food-1.png")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#with li")).to_have_count(12)


def test_without_an_index_only_locating_is_possible(without_index, page, samples):
    page.goto(without_index.url)
    expect(page.locator("#search-about")).to_contain_text("There is no index here: `lpi index FOLDER` makes one.")
    expect(page.get_by_role("button", name="Search")).to_be_disabled()
    page.get_by_label("Picture", exact=True).set_input_files(samples / "stickers" / "tool-0.png")
    page.get_by_label("What to look for").fill("the shower")
    page.get_by_role("button", name="Locate").click()
    expect(page.get_by_role("status").nth(1)).to_contain_text("Found at")


def test_the_keyboard_is_enough(server, page):
    page.goto(server.url)
    expect(page.locator("#search-about")).to_contain_text("48 images")
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.name") == "text":
            break
    page.keyboard.type("a hammer")
    page.keyboard.press("Enter")
    expect(page.locator("#with li")).to_have_count(12)
    names = []
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.name || document.activeElement.textContent"))
    assert names[:3] == ["image", "task", "Search"]


def test_everything_has_a_name_for_screen_readers(server, page):
    page.goto(server.url)
    page.get_by_label("Words").fill("a hammer")
    page.keyboard.press("Enter")
    expect(page.locator("#with li")).to_have_count(12)
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, button, a, img:not([hidden])")]
           .filter(e => e.offsetParent && !(e.labels?.length || e.textContent.trim() || e.alt)).map(e => e.outerHTML)"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3')].map(e => +e.tagName[1])")
    assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))


def test_the_page_fits_a_phone(server, page):
    page.set_viewport_size(PHONE)
    page.goto(server.url)
    page.get_by_label("Words").fill("a hammer")
    page.keyboard.press("Enter")
    expect(page.locator("#with li")).to_have_count(12)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def test_the_figures_are_a_page_of_their_own(server, page):
    page.goto(server.url)
    page.get_by_role("link", name="Figures").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("lpi, tasks: 12")
    expect(page.get_by_role("table").first).to_contain_text("average recall")
    page.get_by_role("button", name="mean").click()
    assert page.locator("th[aria-sort]").count() == 1

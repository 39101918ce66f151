"""Opens pages in headless Chromium at three widths, light and dark: no request leaves a page, nothing sticks
out of it, no script fails. Called by scripts/pages.sh.

    pages.py FOLDER [--shots FOLDER]
"""
import argparse
import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

WIDTHS = (360, 820, 1440)

# What sticks out of the page, or out of the drawing that it belongs to. What lies in a box that scrolls may be
# wider than the box; the letters of a browser may run a little wider than those that a drawing was made with.
OUTSIDE = """() => {
  const out = [], say = (e, why) => out.push(why + ": <" + e.tagName + " class=" + (e.getAttribute("class") || "") + "> " + (e.textContent || "").trim().slice(0, 60));
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) out.push("the page is " + root.scrollWidth + " wide, the window " + root.clientWidth);
  const scrolls = e => { for (; e && e !== document.body; e = e.parentElement) if (["auto", "scroll", "hidden"].includes(getComputedStyle(e).overflowX)) return true; return false; };
  for (const e of document.body.querySelectorAll("*")) {
    const r = e.getBoundingClientRect();
    if (!r.width) continue;
    if (e instanceof SVGElement) {
      const s = e.ownerSVGElement;
      if (e.tagName === "text" && s) {
        const b = s.getBoundingClientRect(), slack = 0.02 * b.width + 2;
        if (r.right > b.right + slack || r.left < b.left - slack || r.bottom > b.bottom + slack || r.top < b.top - slack) say(e, "text outside of its drawing");
      }
    } else if ((r.right > root.clientWidth + 1 || r.left < -1) && !scrolls(e.parentElement)) say(e, "outside of the page");
  }
  return out.slice(0, 5);
}"""


def main():
    a = argparse.ArgumentParser()
    a.add_argument("folder", type=pathlib.Path)
    a.add_argument("--shots", type=pathlib.Path, help="folder to write pictures of the pages to")
    args = a.parse_args()
    pages = sorted(args.folder.glob("*.html"))
    if not pages:
        sys.exit(f"{args.folder}: no pages")
    failed = views = 0
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
                context.set_default_timeout(0)  # a busy machine is slow
                for path in pages:
                    wrong, own = [], path.resolve().as_uri()
                    page = context.new_page()
                    page.on("pageerror", lambda e: wrong.append(f"script: {e}"))
                    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)

                    def request(route):
                        url = route.request.url
                        if url == own or url.startswith("data:"):
                            return route.continue_()
                        wrong.append(f"request to {url}")
                        return route.abort()

                    page.route("**/*", request)
                    page.goto(own)
                    wrong += page.evaluate(OUTSIDE)
                    if args.shots:
                        page.screenshot(path=args.shots / f"{path.stem}-{width}-{scheme}.png", full_page=True)
                    page.close()
                    views += 1
                    failed += bool(wrong)
                    for w in wrong:
                        print(f"{path.name}, {width} wide, {scheme}: {w}")
                context.close()
        browser.close()
    print(f"{len(pages)} pages, {views} views, {failed} wrong")
    sys.exit(failed > 0)


main()

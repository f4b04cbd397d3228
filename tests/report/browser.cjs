// Opens a report in headless Chromium, does what a reader does, and prints what was seen as JSON.
// node browser.cjs CHROMIUM PAGE PROFILE SCENARIO
const { chromium } = require("playwright-core");
const [executablePath, file, profile, scenario] = process.argv.slice(2);
const args = [
  "--headless", "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
  "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
  ...(scenario === "slices" ? ["--disable-3d-apis"] : []),
];

const colour = (page) => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
const picture = async (page, selector) => (await page.locator(selector).first().screenshot()).toString("base64");
const drawn = (page) => page.evaluate(() => Number(document.getElementById("viewer").dataset.drawn));
async function after(page, act) {
  const before = await drawn(page);
  await act();
  await page.waitForFunction((last) => Number(document.getElementById("viewer").dataset.drawn) > last, before);
}

async function raster(page) {
  const stage = "[data-part=stage]", handle = "[data-part=handle]";
  await page.waitForFunction(() => document.getElementById("viewer").dataset.drawn);
  const now = () => page.getAttribute(handle, "aria-valuenow");
  const seen = { start: await now(), first: await picture(page, stage) };
  await page.focus(handle);
  await after(page, () => page.keyboard.press("ArrowLeft"));
  seen.left = await now();
  for (let i = 0; i < 3; i++) await after(page, () => page.keyboard.press("Shift+ArrowRight"));
  seen.right = await now();
  seen.outline = await page.evaluate(() => getComputedStyle(document.activeElement, "::after").outlineStyle);
  seen.swiped = await picture(page, stage);
  const box = await page.locator(stage).boundingBox();
  await page.mouse.move(box.x + box.width * 0.8, box.y + box.height / 2);
  await page.mouse.down();
  await after(page, () => page.mouse.move(box.x + box.width * 0.25, box.y + box.height / 2, { steps: 4 }));
  await page.mouse.up();
  await page.waitForTimeout(150);
  seen.dragged = await now();
  await page.focus(stage);
  await after(page, () => page.keyboard.press("+"));
  seen.zoomed = await page.textContent("[data-part=zoom]");
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await after(page, () => page.mouse.wheel(0, -300));
  seen.wheeled = await page.textContent("[data-part=zoom]");
  await after(page, () => page.mouse.dblclick(box.x + box.width / 2, box.y + box.height / 2));
  await page.waitForTimeout(150);
  seen.reset = await page.textContent("[data-part=zoom]");
  await after(page, () => page.click("button[value=difference]"));
  seen.legend = await page.isVisible("[data-part=legend]");
  await after(page, () => page.click("button[value=beside]"));
  seen.handle = await page.isVisible(handle);
  const sharp = await picture(page, stage);
  await after(page, () => page.click("[data-part=smooth]"));
  seen.smoothed = (await picture(page, stage)) !== sharp;
  return seen;
}

async function volume(page) {
  await page.waitForFunction(() => document.getElementById("viewer").dataset.ready, null, { timeout: 90000 });
  await page.waitForTimeout(500);
  const seen = { kind: await page.getAttribute("#viewer", "data-ready"), panels: await page.locator(".panels canvas").count() };
  seen.letters = await page.evaluate(() => [...document.querySelectorAll(".panels figure:first-child b")].map((b) => b.textContent));
  seen.fallback = await page.isVisible("[data-part=fallback]");
  seen.first = await picture(page, ".panels canvas");
  await page.focus("input[type=range] >> nth=2");
  for (let i = 0; i < 5; i++) await page.keyboard.press("PageUp");
  await page.waitForTimeout(500);
  seen.moved = await picture(page, ".panels canvas");
  await page.click("[data-part=plane] button[value='1']");
  await page.waitForTimeout(500);
  seen.coronal = await page.evaluate(() => [...document.querySelectorAll(".panels figure:first-child b")].map((b) => b.textContent));
  seen.values = await page.locator(".panels output").allTextContents();
  return seen;
}

(async () => {
  const context = await chromium.launchPersistentContext(profile, { executablePath, args, headless: true, colorScheme: "light" });
  const page = await context.newPage();
  const requests = [], errors = [], dialogs = [];
  page.on("request", (request) => requests.push(request.url().slice(0, 200)));
  page.on("console", (message) => ["error", "assert"].includes(message.type()) && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("dialog", (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
  await page.goto(`file://${file}`);
  const seen = scenario === "raster" ? await raster(page) : scenario === "index" ? {} : await volume(page);
  const light = await colour(page);
  await page.click("#theme");
  const dark = await colour(page);
  const shown = await page.evaluate(() => document.documentElement.dataset.theme);
  await page.emulateMedia({ media: "print" });
  const printed = await page.evaluate(() => ["#viewer", "#stills"].map((id) => document.querySelector(id) && getComputedStyle(document.querySelector(id)).display));
  const wide = await page.evaluate(() => { return document.documentElement.scrollWidth - innerWidth; });
  await context.close();
  process.stdout.write(JSON.stringify({ ...seen, requests, errors, dialogs, light, dark, shown, printed, wide }));
})().catch((error) => { console.error(error); process.exit(1); });

// Goes through the console of a box with a real browser, at the size of a phone and of a desktop: invitation, second
// factor, page, account, log-out. Reads {"url", "code", "password", "shots", "dark"} from standard input; writes what it
// saw as JSON: {"titles": [...], "codes": number, "out": url, "findings": [...], "wide": [...]}. Findings are those of
// axe-core that are serious or critical; wide are pages that a phone has to scroll sideways.
const path = require("path");
const crypto = require("crypto");
const modules = path.join(process.argv[2], "node_modules");
const puppeteer = require(path.join(modules, "puppeteer-core"));
const axe = require(path.join(modules, "axe-core"));
const { url, code, password, shots } = JSON.parse(require("fs").readFileSync(0, "utf8"));
// A size alone: whoever says that it is a telephone loads the page anew, and what is shown once is gone.
const PHONE = { width: 390, height: 844, deviceScaleFactor: 2 };
const DESKTOP = { width: 1280, height: 800, deviceScaleFactor: 2 };
const saw = { titles: [], codes: 0, out: "", findings: [], wide: [] };

// What a telephone shows now (RFC 6238).
function shown(secret) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((c) => alphabet.indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30000)));
  const tag = crypto.createHmac("sha1", key).update(step).digest();
  return String((tag.readUInt32BE(tag[19] & 15) & 0x7fffffff) % 1000000).padStart(6, "0");
}

async function main() {
  const browser = await puppeteer.launch({
    executablePath: "/usr/bin/chromium",
    acceptInsecureCerts: true,
    args: ["--no-sandbox", "--disable-gpu"],
  });
  const page = await browser.newPage();
  await page.setViewport(PHONE);

  // Looks at the page in light and dark, as a phone and as a desktop shows it. The page's own policy lets nothing in that
  // is not of the box: axe is evaluated from outside.
  async function look(name) {
    saw.titles.push(await page.title());
    for (const scheme of ["light", "dark"]) {
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.evaluate(axe.source);
      const { violations } = await page.evaluate(() => axe.run());
      for (const found of violations.filter((found) => ["serious", "critical"].includes(found.impact))) {
        saw.findings.push(name + ", " + scheme + ": " + found.id + ": " + found.nodes[0].html);
      }
      await page.screenshot({ path: path.join(shots, name + "-phone-" + scheme + ".png"), fullPage: true });
    }
    if (await page.evaluate(() => document.documentElement.scrollWidth > innerWidth)) saw.wide.push(name);
    await page.setViewport(DESKTOP);
    await page.screenshot({ path: path.join(shots, name + "-desktop-dark.png") });
    await page.setViewport(PHONE);
  }
  // With the keyboard alone: the fields in their order, and return.
  async function fill(first, ...texts) {
    await page.focus(first);
    for (const [at, text] of texts.entries()) {
      if (at > 0) await page.keyboard.press("Tab");
      await page.keyboard.type(text);
    }
    await Promise.all([page.waitForNavigation(), page.keyboard.press("Enter")]);
  }

  await page.goto(url + "/");
  await look("login");
  await page.goto(url + "/invitation");
  await look("invitation");
  await fill("#code", code);
  await look("password");
  await fill("#password", password, password);
  await look("telephone");
  const secret = await page.$eval(".secret", (found) => found.textContent);
  await fill("#code", shown(secret));
  await look("recovery");
  const codes = await page.$$eval(".codes li", (all) => all.map((found) => found.textContent));
  saw.codes = codes.length;
  await page.goto(url + "/");
  await page.waitForSelector("#lines article");
  await look("overview");
  await page.goto(url + "/account");
  await look("account");
  await Promise.all([page.waitForNavigation(), page.click("nav button")]);
  await fill("#name", "anna", password);
  await look("second-factor");
  await fill("#code", codes[0]);
  await page.waitForSelector("#lines article");
  saw.titles.push(await page.title());
  await Promise.all([page.waitForNavigation(), page.click("nav button")]);
  saw.out = page.url();
  await page.goBack();
  saw.titles.push(await page.title());
  await browser.close();
}

main().then(
  () => process.stdout.write(JSON.stringify(saw)),
  (error) => {
    console.error(error, JSON.stringify(saw));
    process.exit(1);
  },
);

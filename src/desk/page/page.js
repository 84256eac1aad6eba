const STATES = [["away", "Away"], ["stuck", "Stuck"], ["unusual", "Unusual"], ["deaf", "Deaf"], ["none", "Well"]];
const WORST = Object.fromEntries(STATES.map(([key], at) => [key, at]));
const WORDS = Object.fromEntries(STATES);
const COLUMNS = ["state", "box", "alerts", "site", "ring", "links", "messages", "queued", "parked", "oldest", "version"];
const NUMBERS = new Set(["ring", "links", "messages", "queued", "parked", "oldest"]);
const HEIGHT = 30, TREND_MAX = 180;
const boxes = new Map();
let shown = [], only = null, words = [], picked = null, isDue = false, trend = [], known = false;

function age(seconds) {
  if (seconds === null || seconds === undefined) return "";
  if (seconds < 120) return seconds + " s";
  if (seconds < 7200) return Math.round(seconds / 60) + " min";
  return seconds < 172800 ? Math.round(seconds / 3600) + " h" : Math.round(seconds / 86400) + " d";
}

function matches(box) {
  if (only === "stranger" ? !box.stranger : only && box.trouble !== only) return false;
  return words.every((word) => {
    if (word.startsWith("ring=")) return String(box.ring) === word.slice(5);
    if (word.startsWith("site=")) return box.site.toLowerCase() === word.slice(5);
    if (word.startsWith("tag=")) return box.tags.some((tag) => tag.toLowerCase() === word.slice(4));
    const text = [box.name, box.site, box.version, ...box.tags, ...box.alerts].join(" ").toLowerCase();
    return text.includes(word);
  });
}

function arrange() {
  isDue = false;
  shown = [...boxes.values()].filter(matches);
  shown.sort((a, b) => WORST[a.trouble] - WORST[b.trouble] || (b.stranger - a.stranger) || b.parked - a.parked
    || b.queued - a.queued || a.name.localeCompare(b.name, "en", { numeric: true }));
  counts();
  $("space").style.height = shown.length * HEIGHT + "px";
  draw();
  const empty = !known ? "Listening to the broker …" : boxes.size ? "No box matches." : "No box has spoken yet.";
  $("empty").hidden = shown.length > 0;
  $("empty").textContent = empty;
}

function later() {
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(arrange);
  // A page in the background is drawn when somebody looks.
  if (document.hidden) setTimeout(() => isDue && arrange(), 1000);
}

function counts() {
  const sum = { away: 0, stuck: 0, unusual: 0, deaf: 0, none: 0 };
  let strangers = 0;
  for (const box of boxes.values()) { sum[box.trouble]++; if (box.stranger) strangers++; }
  const all = [[null, "All", boxes.size], ...STATES.map(([key, word]) => [key, word, sum[key]])];
  if (strangers) all.push(["stranger", "Strangers", strangers]);
  $("counts").replaceChildren(...all.map(([key, word, count]) => {
    const button = element("button", key === "stranger" ? "away" : key || "");
    button.append(word + " ", element("b", "", count));
    button.setAttribute("aria-pressed", only === key);
    button.onclick = () => { only = only === key ? null : key; arrange(); };
    return button;
  }));
}

// Only the rows that can be seen are in the document.
function draw() {
  const scroll = $("scroll"), first = Math.max(0, Math.floor(scroll.scrollTop / HEIGHT) - 5);
  const last = Math.min(shown.length, first + Math.ceil(scroll.clientHeight / HEIGHT) + 10);
  $("rows").style.top = first * HEIGHT + "px";
  $("rows").replaceChildren(...shown.slice(first, last).map(row));
}

function row(box) {
  const made = element("div", "row" + (box.name === picked ? " picked" : ""));
  const name = element("span", "", box.name);
  if (box.stranger) name.append(element("span", "stranger", "stranger"));
  const cells = {
    state: element("span", "state " + box.trouble, WORDS[box.trouble]), box: name, site: element("span", "dim", box.site),
    ring: box.ring === null ? "" : box.ring, version: box.version, links: box.links_up + "/" + box.links,
    messages: box.messages.toLocaleString("en"), queued: box.queued || "", parked: box.parked || "",
    oldest: age(box.oldest_s), alerts: box.alerts.join(", "),
  };
  for (const column of COLUMNS) {
    const cell = cells[column] instanceof Node ? cells[column] : element("span", "", cells[column]);
    if (NUMBERS.has(column)) cell.classList.add("number");
    if (column === "parked" && box.parked) cell.classList.add("stuck");
    made.append(cell);
  }
  made.onclick = () => pick(box.name);
  return made;
}

async function pick(name) {
  picked = name;
  draw();
  const response = await ask("/box/" + encodeURIComponent(name));
  if (response.ok && picked === name) detail(await response.json());
}

function list(title, entries) {
  const dl = element("dl");
  for (const [key, ...values] of entries) {
    const dd = element("dd");
    dd.append(...values);
    dl.append(element("dt", "", key), dd);
  }
  return [element("h3", "", title), entries.length ? dl : element("div", "none-heard", "none")];
}

function plot(values, width, height) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("preserveAspectRatio", "none");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", line(values, width, height));
  svg.append(path);
  return svg;
}

function line(values, width, height) {
  const most = Math.max(1, ...values), step = width / Math.max(1, values.length - 1);
  return values.map((v, at) => (at ? "L" : "M") + (at * step).toFixed(1) + " "
    + (height - 2 - (height - 4) * v / most).toFixed(1)).join("");
}

function detail({ brief, box, note, samples }) {
  const close = element("button", "close", "✕");
  close.setAttribute("aria-label", "Close");
  close.onclick = () => { picked = null; $("detail").hidden = true; draw(); };
  const up = (is, yes, no) => element("span", is ? "none" : "away", is ? yes : no);
  const links = Object.entries(box.links).map(([name, l]) =>
    [name, up(l.up, "up", "down"), ` · ${l.messages.toLocaleString("en")} messages · ${l.naks} refusals`]);
  const to = Object.entries(box.destinations).map(([name, d]) => [name, up(d.up, "up", "down"),
    ` · ${d.queued} on the way · `, element("span", d.parked ? "stuck" : "", d.parked + " parked"),
    d.oldest_s === null ? "" : " · oldest " + age(d.oldest_s),
    d.lab_to_chart_p99_ms === null ? "" : ` · p99 ${d.lab_to_chart_p99_ms} ms`]);
  const alerts = Object.entries(box.alerts).map(([name, since]) => [name, "since " + since]);
  const facts = [["version", box.version], ["configuration", box.revision === null ? "its own" : "revision " + box.revision],
    ["machine", box.hardware || "?"], ["started", `${box.started} (start ${box.epoch}, clock ${box.clock || "?"})`],
    ["downlink", box.downlink ? "proven" : "unproven"], ["site", brief.site || "?"],
    ["ring", brief.ring === null ? "not in the registry" : brief.ring], ["tags", brief.tags.join(", ")], ["note", note]];
  const each = samples.slice(1).map((s, at) => Math.max(0, s.messages - samples[at].messages));
  const plots = each.length < 2 ? [] : [element("h3", "", "messages between counters, last hour"), plot(each, 300, 56),
    element("h3", "", "on the way"), plot(samples.map((s) => s.queued), 300, 56)];
  const state = element("div", "state " + brief.trouble, WORDS[brief.trouble]);
  if (brief.stranger) state.append(element("span", "stranger", "stranger"));
  $("detail").replaceChildren(close, element("h2", "", brief.name), state, ...list("Alerts", alerts),
    ...list("Links", links), ...list("Destinations", to), ...plots,
    ...list("Box", facts.filter(([, value]) => value !== "")));
  $("detail").hidden = false;
}

function heard(kind, data) {
  known = true;
  if (kind === "all") boxes.clear();
  for (const box of data.rows) boxes.set(box.name, box);
  told(data.trouble ? "Broker: " + data.trouble : "", data.trouble !== "");
  if (picked && data.rows.some((box) => box.name === picked)) pick(picked);
  window.heardRows = (window.heardRows || 0) + data.rows.length;
  later();
}

function told(text, isBad) {
  $("link").textContent = text || "live";
  $("link").className = isBad ? "bad" : "";
}

setInterval(() => {
  let bad = 0;
  for (const box of boxes.values()) if (box.trouble !== "none") bad++;
  trend.push(bad);
  if (trend.length > TREND_MAX) trend.shift();
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", line(trend, 180, 36));
  $("trend").replaceChildren(path);
}, 2000);
$("head").append(...COLUMNS.map((column) => element("span", NUMBERS.has(column) ? "number" : "", column)));
$("search").oninput = () => {
  words = $("search").value.toLowerCase().split(/[\s,]+/).filter(Boolean);
  $("scroll").scrollTop = 0;
  arrange();
};
$("scroll").onscroll = draw;
addEventListener("resize", draw);
arrange();
follow("/fleet", {
  heard,
  refused: () => told("The token is wrong: open the address that `afferent desk serve` prints.", true),
  lost: () => told("The desk is gone; trying again …", true),
  silent: (seconds) => told("Nothing heard of the desk for " + age(seconds), true),
});

"use strict";
// What the box says becomes text here (textContent), never markup.
const token = location.hash.slice(1);
const WORDS = { good: "works", look: "have a look", bad: "does not work" };
const RANK = { good: 0, look: 1, bad: 2 };
const SILENT_MS = 12000;
const open = new Set();
let heardAt = Date.now(), before = "", isOver = false;
const $ = (id) => document.getElementById(id);

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

const worst = (findings) => findings.reduce((state, f) => RANK[f.state] > RANK[state] ? f.state : state, "good");

function sentences(of) {
  const made = [];
  for (const { says, next } of of) {
    made.push(element("p", "", says));
    if (next) made.push(element("p", "next", next));
  }
  return made;
}

// One line where all is well; else what is wrong and what to do, and all layers for who wants them.
function card(title, findings) {
  const state = worst(findings);
  const made = element("article", "card " + state);
  const head = element("h3", "", title);
  head.append(element("span", "", WORDS[state]));
  made.append(head, ...sentences(findings.filter((f) => f.state !== "good").sort((a, b) => RANK[b.state] - RANK[a.state])));
  const details = element("details");
  details.open = open.has(title);
  details.ontoggle = () => details.open ? open.add(title) : open.delete(title);
  const layers = element("dl");
  for (const f of findings) layers.append(element("dt", "", f.layer), element("dd", "", f.says));
  details.append(element("summary", "", findings.length + (findings.length === 1 ? " layer" : " layers")), layers);
  made.append(details);
  return made;
}

function show(data) {
  heardAt = Date.now();
  if (!data.findings && !data.trouble) return;
  const text = JSON.stringify(data);
  if (text === before) return;
  before = text;
  // What was green before says nothing of now.
  document.querySelector("main").hidden = Boolean(data.trouble);
  if (data.trouble) return told(data.trouble, "bad");
  document.title = data.name;
  $("name").textContent = data.name;
  const of = new Map();
  for (const f of data.findings) of.set(f.subject, [...(of.get(f.subject) || []), f]);
  const own = of.get("") || [];
  of.delete("");
  if (own.some((f) => f.layer === "gateway" && f.state === "bad")) of.clear();
  const state = worst(data.findings);
  const alerts = data.alerts.length;
  if (state === "bad") told("Something keeps results from getting through", "bad");
  else if (alerts || state === "look") told("Results get through; have a look below", "look");
  else told("Results get through", "good");
  $("alerts").hidden = alerts === 0;
  $("alerts").replaceChildren(element("h2", "", "Unusual now"), ...data.alerts.map((alert) => {
    const made = element("article", "card look");
    const head = element("h3", "", alert.of || data.name);
    head.append(element("span", "", "since " + new Date(alert.since).toLocaleString()));
    made.append(head, ...sentences([alert]));
    return made;
  }));
  $("box").replaceChildren(element("h2", "", "The box"), card(data.name, own));
  const cards = [...of].sort((a, b) => RANK[worst(b[1])] - RANK[worst(a[1])]);
  $("lines").replaceChildren(element("h2", "", "Links and destinations"), ...cards.map(([name, f]) => card(name, f)));
  $("heard").textContent = "afferent " + data.version;
}

function told(text, state) {
  $("state").textContent = text;
  $("state").className = state;
}

async function follow() {
  for (;;) {
    try {
      const response = await fetch("/box", { headers: { Authorization: "Bearer " + token } });
      if (response.status === 401) {
        isOver = true;
        told("The address is not whole: open the one that `afferent console` prints, with what is behind the #", "bad");
        return;
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let text = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const one of events) show(JSON.parse(one.slice(one.indexOf("data: ") + 6)));
      }
    } catch { /* the box is away for a moment: asked again */ }
    await new Promise((wake) => setTimeout(wake, 2000));
  }
}

setInterval(() => {
  if (isOver || Date.now() - heardAt <= SILENT_MS) return;
  before = "";
  document.querySelector("main").hidden = true;
  told("The box has not answered for " + Math.round((Date.now() - heardAt) / 1000) + " s", "bad");
}, 2000);
addEventListener("hashchange", () => location.reload());
follow();

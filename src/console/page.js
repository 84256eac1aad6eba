const WORDS = { good: "works", look: "have a look", bad: "does not work" };
const RANK = { good: 0, look: 1, bad: 2 };
const open = new Set();
let before = "";

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
  if (!data.findings && !data.trouble) return;
  const text = JSON.stringify(data);
  if (text === before) return;
  before = text;
  // What was green before says nothing of now.
  document.querySelector("main").hidden = Boolean(data.trouble);
  if (data.trouble) return told(data.trouble, "bad");
  document.title = data.name;
  $("place").textContent = data.name;
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

follow("/box", {
  heard: (_, data) => show(data),
  refused: () => location.assign("/login"),
  lost: () => {},
  silent: (seconds) => {
    before = "";
    document.querySelector("main").hidden = true;
    told("The box has not answered for " + seconds + " s", "bad");
  },
});

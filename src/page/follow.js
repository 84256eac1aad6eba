// In front of every page's script: the stream of events that it lives on, which `ask` asks for. What is told becomes text
// (textContent), never markup.
const SILENT_MS = 12000, AGAIN_MS = 2000;
const $ = (id) => document.getElementById(id);

function element(kind, name, text) {
  const made = document.createElement(kind);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// Follows the events at `path` for as long as the page is open: heard(kind, data) for each, refused() once if it
// may not, lost() each time the stream ends, silent(seconds) while nothing comes.
async function follow(path, { heard, refused, lost, silent }) {
  let heardAt = Date.now();
  const watch = setInterval(() => {
    if (Date.now() - heardAt > SILENT_MS) silent(Math.round((Date.now() - heardAt) / 1000));
  }, AGAIN_MS);
  for (;;) {
    try {
      const response = await ask(path);
      if (response.status === 401) {
        clearInterval(watch);
        return refused();
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        rest += value;
        const events = rest.split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const [kind, data] = event.split("\n");
          heardAt = Date.now();
          heard(kind.slice("event: ".length), JSON.parse(data.slice("data: ".length)));
        }
      }
    } catch { /* who serves it is away for a moment: asked again */ }
    lost();
    await new Promise((wake) => setTimeout(wake, AGAIN_MS));
  }
}

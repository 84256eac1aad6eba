"use strict";
// How the page asks for what is at `path`: a browser sends the cookie of the session by itself.
const ask = (path) => fetch(path, { cache: "no-store" });

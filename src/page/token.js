"use strict";
// How the page asks for what is at `path`: with the token, which is behind the # of its address.
const token = location.hash.slice(1);
const ask = (path) => fetch(path, { headers: { Authorization: "Bearer " + token }, cache: "no-store" });
addEventListener("hashchange", () => location.reload());

// Judges UCUM codes with @lhncbc/ucum-lhc. Reads {"codes": [...], "pairs": [[from, to], ...]} from standard input;
// writes {"valid": [true|false, ...], "factors": [number|null, ...]}. A warning ("is not a valid unit, but") counts as
// not valid.
// What the package itself has to say goes where it disturbs nobody.
console.log = console.error;
const path = require("path");
const utils = require(path.join(process.argv[2], "node_modules/@lhncbc/ucum-lhc")).UcumLhcUtils.getInstance();
const asked = JSON.parse(require("fs").readFileSync(0, "utf8"));
const valid = asked.codes.map((code) => {
  const said = utils.validateUnitString(code);
  return said.status === "valid" && said.ucumCode === code;
});
const factors = asked.pairs.map(([from, to]) => {
  const said = utils.convertUnitTo(from, 1, to);
  return said.status === "succeeded" ? said.toVal : null;
});
process.stdout.write(JSON.stringify({ valid, factors }));

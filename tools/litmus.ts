// `npm run litmus`: the WebDAV face against a test suite that is not ours.

import { hasLitmus, runLitmus } from "./litmus/litmus.ts";

if (!hasLitmus()) {
  console.log("litmus is not installed; it is the Debian package litmus: apt-get install litmus");
  process.exit(1);
}
const { passed, failed, complaints } = await runLitmus();
for (const line of complaints) console.log(line);
console.log(`litmus: ${passed} passed, ${failed} failed`);
process.exitCode = failed > 0 || passed === 0 ? 1 : 0;

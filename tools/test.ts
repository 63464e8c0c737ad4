// `npm test`: runs every suite and ends with the line `N passed, N failed`.
// Arguments go to vitest: `npm test -- packages/kernel`.

import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string; readonly fullName: string }[];
  }[];
}

const scratch = mkdtempSync(join(tmpdir(), "ergos-test-"));
const file = join(scratch, "report.json");
const done = spawnSync(
  process.execPath,
  [
    "node_modules/vitest/vitest.mjs",
    "run",
    "--reporter=default",
    "--reporter=json",
    `--outputFile.json=${file}`,
    ...process.argv.slice(2),
  ],
  { stdio: ["ignore", "inherit", "inherit"] },
);
const report = readReport();
rmSync(scratch, { recursive: true, force: true });
if (report === undefined) {
  console.log("no report was written: the test runner itself failed\n0 passed, 1 failed");
  process.exit(1);
}
// A file that cannot be loaded, or prepared, has no failed test to count, and is a failure all the same.
const broken = report.testResults.filter(
  (result) => result.status === "failed" && result.assertionResults.every(({ status }) => status !== "failed"),
);
for (const { name } of broken) console.log(`could not be loaded or prepared: ${name}`);
for (const { assertionResults } of report.testResults) {
  for (const { status, fullName } of assertionResults)
    if (status !== "passed" && status !== "failed") console.log(`left out: ${fullName}`);
}
const failed = report.numFailedTests + broken.length;
const skipped = report.numPendingTests === 0 ? "" : `, ${report.numPendingTests} skipped`;
console.log(`${report.numPassedTests} passed, ${failed} failed${skipped}`);
process.exitCode = failed > 0 || done.status !== 0 || report.numPassedTests === 0 ? 1 : 0;

function readReport(): Report | undefined {
  try {
    // Written by vitest's JSON reporter.
    return JSON.parse(readFileSync(file, "utf8")) as Report;
  } catch {
    return undefined;
  }
}

import { expect, test } from "vitest";
import { undisturbed } from "./cut.ts";
import { killRounds } from "./kill.ts";

test("a host killed with SIGKILL two hundred times finishes every run with the same result", async () => {
  const { result } = await undisturbed();

  const report = await killRounds(11, 200, result);

  expect(report.kills).toBeGreaterThanOrEqual(200);
}, 600_000);

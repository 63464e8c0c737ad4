import { describe, expect, test } from "vitest";
import { hasLitmus, runLitmus } from "./litmus.ts";

describe.skipIf(!hasLitmus())("litmus against ergos serve --webdav (needs the Debian package litmus)", () => {
  test("finds nothing wrong", async () => {
    const { passed, failed, complaints } = await runLitmus();

    expect(complaints).toEqual([]);
    expect(failed).toBe(0);
    expect(passed).toBeGreaterThan(100);
  }, 120_000);
});

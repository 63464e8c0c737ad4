import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "ergos";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-map-reduce-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const module = join(import.meta.dirname, "map-reduce.yaml");

test("files are summarised one by one and together", async () => {
  writeFileSync(join(dir, "a.md"), "The journal records every step. A step is never done twice.");
  writeFileSync(
    join(dir, "b.md"),
    "Budgets hold. They are reserved before the act. What is left is refunded. Nothing overshoots.",
  );
  await using os = await connect();

  const result = await os.run({ module }, { input: { dir } });

  expect(result).toMatchObject({
    files: 2,
    words: 26,
    longest: "b.md",
    summary: expect.stringMatching(/\S/) as unknown,
  });
});

test("the guide of this project is the default", async () => {
  await using os = await connect();
  expect(await os.run({ module })).toMatchObject({ files: expect.any(Number) as unknown });
});

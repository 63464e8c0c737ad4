import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "ergos";
import { afterEach, beforeEach, expect, test } from "vitest";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ergos-digest-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const module = join(import.meta.dirname, "digest.yaml");

test("a folder of documents becomes a report and an index", async () => {
  mkdirSync(join(dir, "docs/sub"), { recursive: true });
  writeFileSync(
    join(dir, "docs/a.md"),
    "# Parser\n\nThis parser reads JSON and YAML data into a tree of values. It validates the schema of the data. MIT License. See https://example.org/a.\n",
  );
  writeFileSync(
    join(dir, "docs/sub/b.txt"),
    "A test runner executes tests and prints a coverage report. Each test has assertions and mocks.\n",
  );
  writeFileSync(join(dir, "docs/empty.md"), "");
  writeFileSync(join(dir, "docs/picture.png"), Buffer.from([137, 80, 78, 71]));
  await using os = await connect({ dir: join(dir, "data"), serve: false });

  const pid = await os.spawn({ module }, { input: { dir: join(dir, "docs") } });
  const exit = await os.wait(pid);

  expect(exit.result).toMatchObject({ documents: 3, failed: 0 });
  const { report, index } = exit.result as { report: string; index: string };
  expect(await os.fs.readText(report)).toMatch(/3 documents/);
  const documents = JSON.parse(await os.fs.readText(index)) as {
    path: string;
    topic: string;
    licence: string;
    links: string[];
  }[];
  expect(documents.find(({ path }) => path.endsWith("a.md"))).toMatchObject({
    topic: "data",
    licence: "MIT",
    links: ["https://example.org/a"],
  });
  expect(documents.find(({ path }) => path.endsWith("b.txt"))).toMatchObject({ topic: "testing" });
});

test("the installed packages are digested, every step durable", async () => {
  await using os = await connect({ dir: join(dir, "data"), serve: false });
  const pid = await os.spawn({ module });
  const exit = await os.wait(pid);

  const { documents } = exit.result as { documents: number };
  expect(documents).toBeGreaterThan(100);
  const [process] = await os.ps({ pids: [pid] });
  expect(process?.usage.steps).toBeGreaterThan(4 * documents);
});

// Trees and views on the command line: an agent works on a copy, a person looks, and brings it in.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, expect, test } from "vitest";
import { runErgos, useDirectory } from "./ergos-cli.ts";

const directory = useDirectory();
let cwd: string;
beforeEach(() => {
  cwd = directory.path;
  writeFileSync(
    join(cwd, "agent.mjs"),
    `export default async (input, { os }) => {
  await os.fs.writeFile("/srv/p/a", "by " + (input.who ?? "agent"));
  await os.fs.writeFile("/srv/p/new/file", "n");
  await os.fs.unlink("/srv/p/b");
  return os.fs.readText("/srv/p/a");
};
`,
  );
});
const ergos = (...args: readonly string[]) => runErgos(args, { cwd });
const plant = (): void => {
  for (const name of ["a", "b", "c"]) expect(ergos("write", `/srv/p/${name}`, "first").status).toBe(0);
};

test("what an agent does in its view is seen, brought in or thrown away", () => {
  plant();
  expect(ergos("run", "agent.mjs", "--view", "/srv/p")).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("by agent") as unknown,
  });
  expect(ergos("run", "agent.mjs", "--view", "/srv/p", "--runtime", "process", "--input", "who=child").status).toBe(0);
  expect(ergos("cat", "/srv/p/a").stdout).toBe("first");
  expect(ergos("diff", "2").stdout).toBe("~ a\n- b\n+ new/\n+ new/file\n");
  expect(ergos("apply", "2")).toMatchObject({
    status: 0,
    stdout: expect.stringContaining("4 changes of 2 are in") as unknown,
  });
  expect(ergos("cat", "/srv/p/a").stdout).toBe("by agent");
  const second = ergos("apply", "3");
  expect(second).toMatchObject({
    status: 1,
    stdout: expect.stringMatching(/changed +a +it was changed meanwhile/u) as unknown,
  });
  expect(ergos("apply", "3", "--json")).toMatchObject({
    status: 1,
    stdout: expect.stringContaining("conflicts") as unknown,
  });
  expect(ergos("discard", "agent-3").status).toBe(0);
  expect(ergos("discard", "3")).toMatchObject({ status: 1, stderr: expect.stringContaining("ENOENT") as unknown });
  expect(ergos("ls", "/var/views").stdout.trim()).toBe("");
  expect(ergos("fsck").status).toBe(0);
});

test("a tree is kept, compared and brought back", () => {
  plant();
  expect(ergos("snapshot", "/srv/p", "/srv/before").status).toBe(0);
  expect(ergos("diff", "/srv/before", "/srv/p").stdout).toBe("nothing is different\n");
  expect(ergos("run", "agent.mjs").status).toBe(0);
  expect(ergos("restore", "/srv/before", "/srv/p").stdout).toContain("4 changes");
  expect(ergos("cat", "/srv/p/b").stdout).toBe("first");
  expect(ergos("snapshot", "/srv/p", "/srv/before")).toMatchObject({
    status: 1,
    stderr: expect.stringContaining("EEXIST") as unknown,
  });
  expect(ergos("diff").status).toBe(2);
});

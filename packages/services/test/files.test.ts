// Finding, editing, and many files at once.

import { type Kernel, isKernelError } from "@ergos/kernel";
import { FILE_TOOLS, type GrepOptions, editFile, globFiles, grepFiles } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, openProgram, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
  for (const [path, text] of Object.entries({
    "/srv/a.md": "one\nTwo needle\nthree\n",
    "/srv/b.txt": "needle",
    "/srv/d/c.md": "x\n".repeat(5) + "a needle\n" + "y\n".repeat(5),
    "/srv/d/e/f.md": "nothing",
  }))
    await kernel.os.fs.writeFile(path, text);
});
afterEach(() => kernel.close());

const all = async <T>(items: AsyncIterable<T>): Promise<readonly T[]> => {
  const out: T[] = [];
  for await (const item of items) out.push(item);
  return out;
};
const paths = async (pattern: string, options = {}): Promise<readonly string[]> =>
  (await all(globFiles(kernel.os.fs, pattern, options))).map(({ path }) => path);
const grep = (options: GrepOptions) => all(grepFiles(kernel.os.fs, options));

describe("finding", () => {
  test("paths that match are found in their order, as many as wanted", async () => {
    expect(await paths("/srv/*.md")).toEqual(["/srv/a.md"]);
    expect(await paths("/srv/**/*.md")).toEqual(["/srv/a.md", "/srv/d/c.md", "/srv/d/e/f.md"]);
    expect(await paths("srv/?.txt")).toEqual(["/srv/b.txt"]);
    expect(await paths("/srv/**", { limit: 2 })).toHaveLength(2);
    expect(await paths("/nowhere/**")).toEqual([]);
    expect(await paths("/srv/**/*.{md,txt}")).toEqual(["/srv/a.md", "/srv/b.txt", "/srv/d/c.md", "/srv/d/e/f.md"]);
    expect(await paths("/srv/{d/{c,x}.md,b.*}")).toEqual(["/srv/b.txt", "/srv/d/c.md"]);
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { grants: ["fs.*:/srv/d/e/**", "fs.*:/srv/x/**"] });
    await kernel.os.fs.writeFile("/srv/x/y.js", "");
    const narrow = (await context).os.fs;
    expect((await all(globFiles(narrow, "/srv/{d/e,x}/*.{md,js}"))).map(({ path }) => path)).toEqual([
      "/srv/d/e/f.md",
      "/srv/x/y.js",
    ]);
    await expect(paths(`/srv/${"{a,b}".repeat(10)}`)).rejects.toMatchObject({ code: "EINVAL" });
    const controller = new AbortController();
    controller.abort(new TypeError("enough"));
    await expect(paths("/**", { signal: controller.signal })).rejects.toThrow("enough");
  });

  test("lines that match are found with what is around them, in texts alone", async () => {
    expect(await grep({ pattern: "needle", glob: "/srv/**" })).toEqual([
      { path: "/srv/a.md", line: 2, text: "Two needle" },
      { path: "/srv/b.txt", line: 1, text: "needle" },
      { path: "/srv/d/c.md", line: 6, text: "a needle" },
    ]);
    expect(await grep({ pattern: "^two", glob: "/srv/*", ignoreCase: true, context: 1 })).toEqual([
      { path: "/srv/a.md", line: 2, text: "Two needle", before: ["one"], after: ["three"] },
    ]);
    expect(await grep({ pattern: "needle", glob: "/srv/**", limit: 1 })).toHaveLength(1);
    await kernel.os.fs.write("/srv/binary", new Uint8Array([0, 110, 101]), { create: "maybe" });
    expect(await grep({ pattern: "ne", glob: "/srv/binary" })).toEqual([]);
    await expect(grep({ pattern: "(", glob: "/srv/*" })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(grep({ pattern: "(?=a)", glob: "/srv/*" })).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("a part is not given as the whole, and a long search ends with its signal and lets others have their turn", async () => {
    const many = Array.from({ length: 10_001 }, (_, at) => `f${at}`);
    const files = {
      readdir: async (path: string, { after }: { readonly after?: string } = {}) =>
        path === "/many" && after === undefined ? many.map((name) => ({ name, type: "file" as const })) : [],
    };
    await expect(all(globFiles(files, "/many/*"))).rejects.toMatchObject({ code: "E2BIG" });
    expect(await all(globFiles(files, "/many/*", { limit: 10_001 }))).toHaveLength(10_001);

    await kernel.os.fs.writeFile("/srv/huge", "x\n".repeat(4_000_000));
    let turns = 0;
    const enough = new AbortController();
    // Who is never let in ends nothing, and the search finds its end.
    const ticking = setInterval(() => {
      if (++turns === 4) enough.abort(new TypeError("enough"));
    }, 1);
    await expect(grep({ pattern: "(a|b)+none$", glob: "/srv/huge", signal: enough.signal })).rejects.toThrow("enough");
    clearInterval(ticking);
  });

  test("a pattern that was made to take for ever takes the time of any other, over lines of any length", async () => {
    await kernel.os.fs.writeFile("/srv/long", `${"a".repeat(100_000)}!\nend needle`);
    expect(await grep({ pattern: "^(a+)+$", glob: "/srv/long" })).toEqual([]);
    const many = `${"ü".repeat(600_000)}\n${"b\n".repeat(300_000)}last needle`;
    await kernel.os.fs.writeFile("/srv/many", many);
    expect(await grep({ pattern: "needle$", glob: "/srv/many" })).toEqual([
      { path: "/srv/many", line: 300_002, text: "last needle" },
    ]);
  }, 60_000);

  test("who may not see a file does not find it", async () => {
    const os = await processWith(kernel, ["fs.list:/srv/**", "fs.list:/srv", "fs.read:/srv/d/**"]);
    expect((await all(grepFiles(os.fs, { pattern: "needle", glob: "/srv/**" }))).map(({ path }) => path)).toEqual([
      "/srv/d/c.md",
    ]);
  });
});

describe("editing", () => {
  const edit = (...edits: Parameters<typeof editFile>[2]) => editFile(kernel.os.fs, "/srv/a.md", edits);
  const text = (): Promise<string> => kernel.os.fs.readText("/srv/a.md");

  test("all edits are done, one after the other, or none", async () => {
    await edit({ find: "one", replace: "1" }, { find: "1\n", replace: "1!\n" }, { find: "e", replace: "E", all: true });
    expect(await text()).toBe("1!\nTwo nEEdlE\nthrEE\n");
    const before = await text();
    await expect(edit({ find: "Two", replace: "2" }, { find: "four", replace: "" })).rejects.toMatchObject({
      code: "EINVAL",
      message: expect.stringMatching(/edit 2 of 2 finds nothing: "four"/u) as unknown,
    });
    await expect(edit({ find: "E", replace: "e" })).rejects.toMatchObject({
      message: expect.stringMatching(/there 5 times, at lines 2, 2, 2, 3, 3;/u) as unknown,
    });
    await expect(edit({ find: "Two  nEEdlE", replace: "" })).rejects.toMatchObject({
      message: expect.stringContaining("other white space") as unknown,
    });
    await expect(edit({ find: "", replace: "x" })).rejects.toMatchObject({ code: "EINVAL" });
    expect(await text()).toBe(before);
    await expect(editFile(kernel.os.fs, "/srv/none", [])).rejects.toMatchObject({ code: "ENOENT" });
    await kernel.os.fs.write("/srv/binary", new Uint8Array([0xff, 0xfe]), { create: "maybe" });
    await expect(editFile(kernel.os.fs, "/srv/binary", [])).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("edits of many at the same time are all done", async () => {
    await kernel.os.fs.writeFile("/srv/list", Array.from({ length: 8 }, (_none, at) => `line ${at};`).join("\n"));
    const one = (at: number) => editFile(kernel.os.fs, "/srv/list", [{ find: `line ${at};`, replace: `done ${at};` }]);
    await Promise.all(Array.from({ length: 8 }, (_none, at) => one(at)));
    expect(await kernel.os.fs.readText("/srv/list")).not.toContain("line");
  });

  test("agents have these as tools", async () => {
    const tool = async (name: string, args: Readonly<Record<string, unknown>>): Promise<unknown> =>
      FILE_TOOLS.find((one) => one.name === name)?.call(args, {
        os: kernel.os,
        signal: new AbortController().signal,
        idempotencyKey: "k",
      });
    expect(await tool("glob", { pattern: "/srv/*.txt" })).toEqual([{ path: "/srv/b.txt", type: "file" }]);
    expect(await tool("grep", { pattern: "needle", glob: "/srv/*", limit: 1 })).toMatchObject([{ path: "/srv/a.md" }]);
    expect(await tool("edit_file", { path: "/srv/b.txt", edits: [{ find: "needle", replace: "pin" }] })).toEqual({
      path: "/srv/b.txt",
      bytes: 3,
    });
  });
});

test("many files are read and written at once, each with its own outcome", async () => {
  const { fs } = kernel.os;
  const written = await fs.writeMany([
    { path: "/srv/new/1", content: "1" },
    { path: "/srv", content: "a directory" },
    { path: "/srv/a.md", content: "stale", options: { ifGeneration: 1 as never } },
  ]);
  expect(written.map(({ path, error }) => [path, error?.code])).toEqual([
    ["/srv/new/1", undefined],
    ["/srv", "EISDIR"],
    ["/srv/a.md", "ESTALE"],
  ]);
  const read = await fs.readMany(["/srv/new/1", "/srv/none"]);
  expect([read[0]?.value?.length, isKernelError(read[1]?.error) && read[1].error.code]).toEqual([1, "ENOENT"]);
});

test("extended attributes are kept with the file, under its rights and bounds", async () => {
  const { call, fs } = kernel.os;
  const path = "/srv/a.md";
  await Promise.all(
    Array.from({ length: 20 }, (_none, at) => call("setxattr", { path, values: { [`user.${at}`]: String(at) } })),
  );
  expect(Object.keys(await call("getxattr", { path }))).toHaveLength(20);
  await call("setxattr", { path, values: { "user.1": null, "user.99": null } });
  expect(await call("getxattr", { path, name: "user.1" })).toEqual({});
  await fs.write(path, "new");
  await fs.rename(path, "/srv/moved");
  await fs.clone("/srv/moved", "/srv/copy");
  expect(await call("getxattr", { path: "/srv/copy", name: "user.7" })).toEqual({ "user.7": "7" });
  const more = Object.fromEntries(Array.from({ length: 45 }, (_none, at) => [`user.${at + 20}`, ""]));
  await call("setxattr", { path: "/srv/moved", values: more });
  await expect(
    (async () => call("setxattr", { path: "/srv/moved", values: { "user.20": "kept?", more: "" } }))(),
  ).rejects.toMatchObject({
    code: "E2BIG",
  });
  // All of them, or none.
  expect(await call("getxattr", { path: "/srv/moved", name: "user.20" })).toEqual({ "user.20": "" });
  const os = await processWith(kernel, ["fs.stat:/srv/**"]);
  expect(Object.keys(await os.call("getxattr", { path: "/srv/moved" }))).toHaveLength(64);
  await expect((async () => os.call("setxattr", { path: "/srv/moved", values: { a: "" } }))()).rejects.toMatchObject({
    code: "EACCES",
  });
  await expect((async () => call("getxattr", { path: "/sys/version" }))()).rejects.toMatchObject({ code: "ENOTSUP" });
});

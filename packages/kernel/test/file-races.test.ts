// Two calls about the same names, the second begun at each of the turns that the first takes: what is in the store stays
// whole, what is read is what somebody wrote, and what nobody can reach is not kept.

import { type Kernel, type Os, isKernelError } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, closeWhole, processWith } from "./kernel-fixture.ts";

let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  kernel = await bootKernel();
  ({ os } = kernel);
});
afterEach(() => closeWhole(kernel));

const TURNS = 24;
const turns = async (count: number): Promise<void> => {
  for (let at = 0; at < count; at++) await Promise.resolve();
};
const contentOf = (path: string): Promise<string> =>
  os.fs.readText(path).catch((error: unknown) => (isKernelError(error) ? error.code : String(error)));

interface Race {
  readonly name: string;
  readonly files: Readonly<Record<string, string>>;
  readonly one: (at: string) => Promise<unknown>;
  readonly two: (at: string) => Promise<unknown>;
  /** A file of it, and what may be in it in the end. */
  readonly end: readonly [file: string, contents: readonly string[]];
}

const RACES: readonly Race[] = [
  {
    name: "a log is rotated: the old one moves away, the new one onto its name",
    files: { a: "A", q: "Q" },
    one: (at) => os.fs.rename(`${at}/q`, `${at}/r`),
    two: (at) => os.fs.rename(`${at}/a`, `${at}/q`),
    end: ["r", ["Q"]],
  },
  {
    name: "two move onto one new name",
    files: { a: "A", b: "B" },
    one: (at) => os.fs.rename(`${at}/a`, `${at}/q`),
    two: (at) => os.fs.rename(`${at}/b`, `${at}/q`),
    end: ["q", ["A", "B"]],
  },
  {
    name: "a file moves where another one is just written",
    files: { a: "A" },
    one: (at) => os.fs.rename(`${at}/a`, `${at}/q`),
    two: (at) => os.fs.writeFile(`${at}/q`, "Q"),
    end: ["q", ["A", "Q"]],
  },
  {
    name: "a directory moves where another one moves away",
    files: { "a/x": "A", "q/y": "Q" },
    one: (at) => os.fs.rename(`${at}/q`, `${at}/r`),
    two: (at) => os.fs.rename(`${at}/a`, `${at}/q`),
    end: ["r/y", ["Q"]],
  },
  {
    name: "what is moved is replaced by another one",
    files: { a: "A", b: "B" },
    one: (at) => os.fs.rename(`${at}/b`, `${at}/a`),
    two: (at) => os.fs.rename(`${at}/a`, `${at}/c`),
    end: ["c", ["A", "B"]],
  },
  {
    name: "a tree is removed by two at once",
    files: { "t/a": "A", "t/b/c": "C", "t/d": "D" },
    one: (at) => os.fs.unlink(`${at}/t`, { recursive: true }),
    two: (at) => os.fs.unlink(`${at}/t`, { recursive: true }),
    end: ["t/a", ["ENOENT"]],
  },
];

describe("at each turn", () => {
  test.each(RACES)("$name", async ({ files, one, two, end: [file, contents] }) => {
    for (let turn = 0; turn < TURNS; turn++) {
      const at = `/t/${turn}`;
      for (const [name, content] of Object.entries(files)) await os.fs.writeFile(`${at}/${name}`, content);
      const first = one(at);
      await turns(turn);
      const ends = await Promise.allSettled([first, two(at)]);
      for (const end of ends)
        if (end.status === "rejected")
          expect(["ENOENT", "EEXIST"], String(end.reason)).toContain((end.reason as { code: string }).code);
      expect(contents).toContain(await contentOf(`${at}/${file}`));
    }
    await os.fs.unlink("/t", { recursive: true });
    expect(await os.fs.readdir("/t").catch((error: { code: string }) => error.code)).toBe("ENOENT");
  });

  test("a handle that is opened while the name goes reads what was there, or is refused", async () => {
    const seen = new Set<string>();
    for (let turn = 0; turn < 2 * TURNS; turn++) {
      await os.fs.writeFile("/t/f", "old".repeat(20_000));
      await os.fs.writeFile("/t/g", "new");
      const going = turn % 2 === 0 ? os.fs.unlink("/t/f") : os.fs.rename("/t/g", "/t/f");
      await turns(turn >> 1);
      const handle = await os.fs.open("/t/f", ["read", "write"]).catch((error: { code: string }) => error.code);
      await going;
      if (typeof handle === "string") {
        seen.add(handle);
        continue;
      }
      seen.add(new TextDecoder().decode((await handle.read()).subarray(0, 3)));
      await handle.close();
    }
    expect(seen).toContain("ENOENT");
    for (const one of seen) expect(["old", "new", "ENOENT"]).toContain(one);
  });

  test("a write through a handle beside its end leaves nothing of a file without a name", async () => {
    for (let turn = 0; turn < TURNS; turn++) {
      await os.fs.writeFile("/t/f", "x");
      const handle = await os.fs.open("/t/f", ["write"]);
      await os.fs.unlink("/t/f");
      const writing = handle.write(new Uint8Array(40_000)).catch(() => undefined);
      await turns(turn);
      await Promise.all([handle.close(), writing]);
    }
  });
});

describe("what is not a range or a type is refused, and changes nothing", () => {
  test("offsets, lengths and sizes, by path and by handle", async () => {
    await os.fs.writeFile("/t/f", "hello");
    await using handle = await os.fs.open("/t/f", ["read", "write"]);
    for (const offset of [-1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60]) {
      for (const act of [
        () => handle.write("x", { offset }),
        () => handle.read({ offset }),
        () => handle.truncate(offset),
        () => os.fs.write("/t/f", "x", { offset }),
        () => os.fs.read("/t/f", { offset }),
        () => os.fs.truncate("/t/f", offset),
      ])
        await expect(act()).rejects.toMatchObject({ code: "EINVAL" });
    }
    const id = await os.content.write("content");
    await expect(os.content.read(id, { offset: -7 })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(os.content.read(id, { length: -1 })).rejects.toMatchObject({ code: "EINVAL" });
    const pieces = os.content.stream(id, { pieceBytes: 0 });
    await expect(pieces.next()).rejects.toMatchObject({ code: "EINVAL" });
    expect(await contentOf("/t/f")).toBe("hello");
  });

  test("attributes, content, paths and calls", async () => {
    await os.fs.writeFile("/t/f", "hello");
    const before = await os.fs.stat("/t/f");
    const wrong: readonly [name: string, args: object][] = [
      ["setattr", { path: "/t/f", owner: 7 }],
      ["setattr", { path: "/t/f", modified: Number.NaN }],
      ["setattr", { path: "/t/f", mode: -1 }],
      ["write", { path: "/t/f", bytes: "text" }],
      ["write", { path: "/t/f", bytes: new Uint8Array(1), mime: 7 }],
      ["write", { path: "/t/f", bytes: new Uint8Array(1), create: "perhaps" }],
      ["append", { path: "/t/f", bytes: [1, 2] }],
      ["readdir", { path: "/t", limit: Number.NaN }],
      ["stat", { path: undefined }],
      ["stat", { path: "/t/\ud800" }],
      ["open", { path: "/t/f", rights: ["all"] }],
    ];
    for (const [name, args] of wrong)
      await expect(
        (async () => os.call(name as never, args))(),
        `${name} ${JSON.stringify(args)}`,
      ).rejects.toMatchObject({ code: "EINVAL" });
    await expect((async () => os.call("toString" as never, {}))()).rejects.toMatchObject({ code: "ENOSYS" });
    expect(await os.call("getxattr", { path: "/t/f", name: "toString" })).toEqual({});
    expect(await os.fs.stat("/t/f")).toEqual(before);
    const outcomes = await os.fs.readMany(["/t/f", undefined as never]);
    expect(outcomes.map(({ error }) => error?.code)).toEqual([undefined, "EINVAL"]);
  });
});

test("a handle takes the fence of a lock as a path does", async () => {
  await os.fs.writeFile("/t/f", "x");
  const holder = await processWith(kernel, ["fs.*", "lock.*"]);
  const { fence } = await holder.call("lock", { path: "/t/f", ttlMs: 60_000 });
  const handle = await holder.fs.open("/t/f", ["write"]);
  await handle.write("y", { fence });
  await expect(handle.write("z", { fence: fence + 1 })).rejects.toMatchObject({ code: "ESTALE" });
  expect(await contentOf("/t/f")).toBe("y");
});

test("a whole directory is listed however many names it has", async () => {
  const names = Array.from({ length: 10_050 }, (_, at) => `f${String(at).padStart(5, "0")}`);
  for (let at = 0; at < names.length; at += 1000)
    await os.fs.writeMany(names.slice(at, at + 1000).map((name) => ({ path: `/many/${name}`, content: "" })));
  expect((await os.fs.readdir("/many")).map(({ name }) => name)).toEqual(names);
  await expect(os.fs.readdir("/many", { limit: 20_000 })).rejects.toMatchObject({ code: "EINVAL" });
});

test("what grows or shrinks may be larger than what one call carries", async () => {
  const large = 300 * 1024 * 1024;
  await os.fs.writeFile("/t/f", "head");
  await os.fs.write("/t/f", "tail", { offset: 200 * 1024 * 1024 });
  await os.fs.truncate("/t/f", large);
  expect(await os.fs.stat("/t/f")).toMatchObject({ size: large });
  await os.fs.truncate("/t/f", 5);
  expect(await contentOf("/t/f")).toBe("head\0");
  await expect(os.fs.truncate("/t/f", large)).rejects.toMatchObject({ code: "EFBIG" });
});

test("whoever watches files hears of a directory that comes or goes with them", async () => {
  const { generation } = await os.fs.writeFile("/t/one/deep/a.ts", "");
  await os.fs.writeFile("/t/one/other.md", "");
  await os.fs.rename("/t/one", "/t/two");
  await os.fs.clone("/t/two", "/t/three");
  await os.fs.rename("/t/two/other.md", "/t/other.md");
  await os.fs.rename("/t/two/deep", "/elsewhere");
  await os.fs.writeFile("/t/end/a.ts", "");
  const seen: unknown[] = [];
  for await (const { name, data } of os.fs.watch("/t/**/*.ts", { after: generation })) {
    seen.push([name, data["oldPath"], data["path"]]);
    if (data["path"] === "/t/end/a.ts") break;
  }
  expect(seen).toEqual([
    ["file.renamed", "/t/one", "/t/two"],
    ["file.copied", "/t/two", "/t/three"],
    ["file.renamed", "/t/two/deep", "/elsewhere"],
    ["file.written", undefined, "/t/end/a.ts"],
  ]);
});

test("content is read into memory of the caller, as much as there is and fits", async () => {
  await os.fs.writeFile("/t/small", "0123456789");
  await os.fs.writeFile("/t/large", new Uint8Array(3_000_000).fill(7));
  const into = new Uint8Array(8).fill(255);
  expect([await os.fs.readInto("/t/small", into), new TextDecoder().decode(into)]).toEqual([8, "01234567"]);
  expect([await os.fs.readInto("/t/small", into, 7), new TextDecoder().decode(into)]).toEqual([3, "78934567"]);
  expect(await os.fs.readInto("/t/small", into, 99)).toBe(0);
  expect(await os.fs.readInto("/t/small", new Uint8Array(0))).toBe(0);
  const whole = new Uint8Array(4_000_000);
  expect(await os.fs.readInto("/t/large", whole, 1)).toBe(2_999_999);
  expect([whole[0], whole[2_999_998], whole[2_999_999]]).toEqual([7, 7, 0]);
  await using handle = await os.fs.open("/t/small", ["read"]);
  expect([await handle.readInto(into.subarray(0, 2), 4), into[0], into[1], into[2]]).toEqual([2, 52, 53, 57]);
  expect(await os.fs.readInto("/sys/version", into)).toBeGreaterThan(0);
  await os.fs.makeStream("/t/stream");
  await os.fs.stream("/t/stream").append(["ab", "cd"]);
  expect([await os.fs.readInto("/t/stream", into), into[3]]).toEqual([4, 100]);
  for (const wrong of [-1, 1.5, Number.NaN])
    await expect(os.fs.readInto("/t/small", into, wrong)).rejects.toMatchObject({ code: "EINVAL" });
  await expect(os.fs.readInto("/t/small", [] as never)).rejects.toMatchObject({ code: "EINVAL" });
  await expect(os.fs.readInto("/t", into)).rejects.toMatchObject({ code: "EISDIR" });
  await expect((await os.fs.open("/t/small", ["write"])).readInto(into)).rejects.toMatchObject({ code: "EBADF" });
});

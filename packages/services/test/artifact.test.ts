// Artifacts: what runs leave behind, and who may see it.

import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, LIMITS, type Os, type Visibility } from "@ergos/kernel";
import { type RunContext, program } from "@ergos/services";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const failing = async (call: () => unknown): Promise<unknown> => call();
const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const textOf = async (os: Os, pid: Os["pid"], name: string): Promise<string> =>
  new TextDecoder().decode(await os.call("readArtifact", { pid, name }));
async function child(of: Os, options: Parameters<Os["spawn"]>[1] = {}): Promise<Os> {
  const { program: open, context } = openProgram();
  await of.spawn(open, options);
  return (await context).os;
}

test("an artifact is kept once, with what is said of it, and outlives its process and its host", async () => {
  const store = new LastingStore();
  const objects = new MemoryObjectStore();
  const first = await bootKernel({ store: store.life(), objects });
  const writer = program("writer", async (_input: unknown, ctx: RunContext) => {
    await ctx.keep("report.md", "# Report", { meta: { pages: 1 }, mediaType: "text/markdown" });
    await ctx.keep("data", { rows: [1, 2] });
    await ctx.keep("large", new Uint8Array(100_000).fill(7));
  });
  const pid = await first.os.spawn(writer);
  await first.os.wait(pid);

  const next = await bootKernel({ store: store.life(), objects });
  expect(await next.os.call("artifacts", { pid })).toMatchObject([
    { name: "data", mediaType: "application/json", size: 14 },
    { name: "large", size: 100_000, visibility: "subtree" },
    { name: "report.md", mediaType: "text/markdown", meta: { pages: 1 }, runId: `writer-${pid}` },
  ]);
  expect(await next.os.fs.readText(`/proc/runs/writer-${pid}/artifacts/report.md`)).toBe("# Report");
  expect((await next.os.fs.read(`/proc/${pid}/artifacts/large`, { offset: 99_999 })).at(0)).toBe(7);
  expect(await next.os.call("artifacts", { prefix: "re" })).toHaveLength(1);
  await next.close();
});

describe("visibility", () => {
  /** A producer with those above, below and beside it, and one of another user. */
  async function family() {
    const above = await child(kernel.os);
    const producer = await child(above);
    const between = await child(producer);
    const below = await child(between);
    const sibling = await child(above);
    return { above, producer, between, below, sibling };
  }
  test.each([
    ["private", ["producer"]],
    ["subtree", ["above", "producer", "between", "below"]],
    ["user", ["above", "producer", "between", "below", "sibling"]],
    ["global", ["above", "producer", "between", "below", "sibling"]],
  ] as const satisfies readonly (readonly [Visibility, readonly string[]])[])(
    "%s is seen by %j",
    async (visibility, seers) => {
      const all = await family();
      const { pid } = all.producer;
      await all.producer.call("putArtifact", { name: "a", bytes: bytesOf("x"), visibility });
      // Who stands between, and the producer itself, may be long gone.
      await kernel.os.call("read", { path: "/proc/self/status" });
      const seen: string[] = [];
      for (const [name, os] of Object.entries(all)) {
        const found = await os.call("artifact", { pid, name: "a" });
        const listed = await os.call("artifacts", { pid });
        const isFile = await os.fs.exists(`/proc/${pid}/artifacts/a`);
        expect([listed.length, isFile]).toEqual(found === null ? [0, false] : [1, true]);
        if (found !== null) seen.push(name);
      }
      expect(seen).toEqual(seers);
      expect(await kernel.os.call("artifact", { pid, name: "a" })).not.toBeNull();
    },
  );

  test("does not break when its producer is gone", async () => {
    const { producer, below, sibling } = await family();
    await producer.call("putArtifact", { name: "a", bytes: bytesOf("x") });
    const { pid } = producer;
    const done = program("done", (_input: unknown, ctx: RunContext) => ctx.keep("b", "y"));
    const gone = await below.spawn(done);
    await kernel.os.wait(gone);
    expect(await textOf(producer, gone, "b")).toBe("y");
    expect(await textOf(below, pid, "a")).toBe("x");
    await expect(textOf(sibling, gone, "b")).rejects.toMatchObject({ code: "ENOENT" });
  });
});

test("nobody writes, replaces or removes another's", async () => {
  const [one, two] = [await child(kernel.os), await child(kernel.os)];
  await one.call("putArtifact", { name: "a", bytes: bytesOf("one"), visibility: "global" });
  await two.call("putArtifact", { name: "a", bytes: bytesOf("two"), visibility: "global" });
  expect(await textOf(two, one.pid, "a")).toBe("one");
  await one.call("putArtifact", { name: "a", bytes: bytesOf("again"), visibility: "private" });
  await expect(textOf(two, one.pid, "a")).rejects.toMatchObject({ code: "ENOENT" });
  await expect(failing(() => two.call("removeArtifact", { pid: one.pid, name: "a" }))).rejects.toMatchObject({
    code: "ENOENT",
  });
  await expect(failing(() => one.call("removeArtifact", { pid: two.pid, name: "a" }))).rejects.toMatchObject({
    code: "EPERM",
  });
  await kernel.os.call("removeArtifact", { pid: two.pid, name: "a" });
  expect(await kernel.os.call("artifacts", {})).toMatchObject([{ pid: one.pid }]);
  const narrow = await child(kernel.os, { grants: ["self", `artifact.read:/proc/${one.pid}/artifacts/**`] });
  await expect(failing(() => narrow.call("putArtifact", { name: "a", bytes: bytesOf("") }))).rejects.toMatchObject({
    code: "EACCES",
  });
  await expect(failing(() => narrow.call("artifact", { pid: two.pid, name: "a" }))).rejects.toMatchObject({
    code: "EACCES",
  });
});

test("names and sizes that cannot be are refused", async () => {
  const os = await child(kernel.os);
  const put = (name: string, more: object = {}) =>
    failing(() => os.call("putArtifact", { name, bytes: bytesOf(""), ...more }));
  for (const name of ["", "a/b", ".", "..", "a\nb", "x".repeat(256)])
    await expect(put(name)).rejects.toMatchObject({ code: "EINVAL" });
  await expect(put("a", { meta: "x".repeat(LIMITS.inlineBytesMax) })).rejects.toMatchObject({ code: "E2BIG" });
  await expect(put("a", { visibility: "everybody" })).rejects.toMatchObject({ code: "EINVAL" });
  await expect(put("a", { bytes: "text" })).rejects.toMatchObject({ code: "EINVAL" });
  await put("ünï çödé %2F …");
  expect(await textOf(os, os.pid, "ünï çödé %2F …")).toBe("");
  expect((await os.fs.readdir(`/proc/${os.pid}/artifacts`)).map(({ name }) => name)).toEqual(["ünï çödé %2F …"]);
});

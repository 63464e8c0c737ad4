// Pipes and streams: order, waiting, ends, what is kept, and restarts.

import { type Kernel, type Os, SEQ_ZERO, type Seq, type StreamEntry } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { LastingStore, bootKernel, closeWhole, openProgram, processWith } from "./kernel-fixture.ts";

let kernel: Kernel;
let os: Os;
beforeEach(async () => {
  kernel = await bootKernel();
  os = kernel.os;
});
afterEach(() => closeWhole(kernel));

const text = (bytes: Uint8Array | null): string | null => (bytes === null ? null : new TextDecoder().decode(bytes));
const tick = (): Promise<void> => new Promise((go) => setImmediate(go));
const refused = (code: string): object => ({ code });
const all = async (entries: AsyncIterable<StreamEntry>): Promise<readonly (string | null)[]> => {
  const out: (string | null)[] = [];
  for await (const { bytes } of entries) out.push(text(bytes));
  return out;
};

describe("a pipe", () => {
  test("gives each piece to one reader, in their order, and is drained before it is closed", async () => {
    await os.fs.makePipe("/srv/p", { capacity: 10 });
    const pipe = os.fs.pipe("/srv/p");
    expect(await os.fs.stat("/srv/p")).toMatchObject({ type: "pipe" });
    await pipe.write("12345");
    await pipe.write("6789");
    await expect(pipe.write("ab", { waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
    await expect(pipe.write("ab", { waitMs: 5 })).rejects.toMatchObject(refused("EAGAIN"));
    await expect(pipe.write("longer than it")).rejects.toMatchObject(refused("E2BIG"));
    const order: string[] = [];
    const waiting = [pipe.write("abc").then(() => order.push("abc")), pipe.write("d").then(() => order.push("d"))];
    await tick();
    expect(text(await pipe.read())).toBe("12345");
    await Promise.all(waiting);
    expect(order).toEqual(["abc", "d"]);
    await pipe.close();
    await expect(pipe.write("x")).rejects.toMatchObject(refused("EPIPE"));
    const rest: (string | null)[] = [];
    for await (const piece of pipe) rest.push(text(piece));
    expect(rest).toEqual(["6789", "abc", "d"]);
    expect(await pipe.read()).toBeNull();
    await os.fs.makePipe("/srv/e", { capacity: 2 });
    const empty = os.fs.pipe("/srv/e");
    await Promise.all([empty.write(""), empty.write("")]);
    await expect(empty.write("", { waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
  });

  test("its readers wait in a line, until a piece, their time, their signal or their end", async () => {
    await os.fs.makePipe("/srv/p");
    const pipe = os.fs.pipe("/srv/p");
    await expect(pipe.read({ waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
    await expect(pipe.read({ waitMs: 5 })).rejects.toMatchObject(refused("EAGAIN"));
    const reader = await processWith(kernel, ["fs.*"]);
    const first = reader.fs.pipe("/srv/p").read();
    const gone = expect(first).rejects.toBeDefined();
    const controller = new AbortController();
    const second = pipe.read({ signal: controller.signal });
    const third = pipe.read();
    const fourth = pipe.read();
    await tick();
    await os.kill(reader.pid, "KILL");
    await gone;
    controller.abort(new TypeError("enough"));
    await expect(second).rejects.toThrow("enough");
    await pipe.write("3");
    await pipe.write("4");
    expect([text(await third), text(await fourth)]).toEqual(["3", "4"]);
    const last = pipe.read();
    await tick();
    await os.fs.unlink("/srv/p");
    expect(await last).toBeNull();
    await expect(pipe.read()).rejects.toMatchObject(refused("ENOENT"));
  });

  test("loses and repeats nothing between many writers and many readers", async () => {
    await os.fs.makePipe("/srv/p", { capacity: 50 });
    const pipe = os.fs.pipe("/srv/p");
    const got: string[] = [];
    const readers = Array.from({ length: 5 }, async () => {
      for await (const piece of pipe) got.push(text(piece) ?? "");
    });
    const writers = Array.from({ length: 8 }, async (_none, writer) => {
      for (let at = 0; at < 100; at++) await pipe.write(`${writer}.${at}`);
    });
    await Promise.all(writers);
    await pipe.close();
    await Promise.all(readers);
    expect(got).toHaveLength(800);
    expect(new Set(got).size).toBe(800);
    for (let writer = 0; writer < 8; writer++) {
      const own = got.filter((one) => one.startsWith(`${writer}.`)).map((one) => Number(one.slice(2)));
      expect(own).toEqual([...own].sort((one, two) => one - two));
    }
  });
});

describe("a stream", () => {
  test("is read by everybody from wherever they are, and followed", async () => {
    await os.fs.makeStream("/srv/s");
    const stream = os.fs.stream("/srv/s");
    expect(await stream.append(["one", "two"])).toBe(2);
    expect(await stream.append(["three"], { durability: "flushed" })).toBe(1);
    expect(await all(stream.read())).toEqual(["one", "two", "three"]);
    const entries: StreamEntry[] = [];
    for await (const entry of stream.read({ limit: 1 })) entries.push(entry);
    const [{ seq, at } = { seq: 0 as Seq, at: 0 }] = entries;
    expect(Math.abs(at - Date.now())).toBeLessThan(60_000);
    expect(await all(stream.read({ after: seq }))).toEqual(["three"]);
    const controller = new AbortController();
    const seen: (string | null)[] = [];
    const following = (async () => {
      for await (const { bytes } of stream.read({ after: seq, follow: true, signal: controller.signal }))
        seen.push(text(bytes));
    })();
    const ended = expect(following).rejects.toThrow("enough");
    for (let at2 = 0; at2 < 5; at2++) {
      await stream.append([`more ${at2}`]);
      await tick();
    }
    controller.abort(new TypeError("enough"));
    await ended;
    expect(seen).toEqual(["three", "more 0", "more 1", "more 2", "more 3", "more 4"]);
    expect(await os.fs.readText("/srv/s")).toBe("onetwothreemore 0more 1more 2more 3more 4");
    expect(text(await os.fs.read("/srv/s", { offset: 3, length: 3 }))).toBe("two");
  });

  test.each([false, true])(
    "keeps as much as it shall, and tells who fell behind (volatile: %s)",
    async (isVolatile) => {
      await os.fs.makeStream("/srv/s", { keep: 10, isVolatile });
      const stream = os.fs.stream("/srv/s");
      await stream.append(["first"]);
      const [first] = await (async () => {
        const found: StreamEntry[] = [];
        for await (const entry of stream.read()) found.push(entry);
        return found;
      })();
      for (let at = 0; at < 30; at++) await stream.append([`${at}`]);
      expect(await all(stream.read())).toEqual(Array.from({ length: 10 }, (_none, at) => `${at + 20}`));
      await expect(all(stream.read({ after: first?.seq ?? (1 as Seq) }))).rejects.toMatchObject({
        code: "ESTALE",
        message: expect.stringMatching(/the earliest is at \d+/u) as unknown,
      });
      await stream.append(Array.from({ length: 15 }, (_none, at) => `burst ${at}`));
      expect((await all(stream.read())).length).toBeGreaterThanOrEqual(10);
    },
  );

  test("forgets what is older than it shall keep", async () => {
    await os.fs.makeStream("/srv/s", { keepMs: 30 });
    const stream = os.fs.stream("/srv/s");
    await stream.append(["old"]);
    await new Promise((go) => setTimeout(go, 50));
    await stream.append(["new"]);
    await stream.append(["newer"]);
    expect(await all(stream.read())).toEqual(["new", "newer"]);
  });

  test("is there after a restart, with what it kept; a volatile one is empty", async () => {
    const store = new LastingStore();
    let host = await bootKernel({ store: store.life() });
    await host.os.fs.makeStream("/srv/s", { keep: 3 });
    await host.os.fs.makeStream("/srv/v", { isVolatile: true });
    for (let at = 0; at < 5; at++) {
      await host.os.fs.stream("/srv/s").append([`${at}`]);
      await host.os.fs.stream("/srv/v").append([`${at}`]);
    }
    await host.close();
    host = await bootKernel({ store: store.life() });
    expect(await all(host.os.fs.stream("/srv/s").read())).toEqual(["2", "3", "4"]);
    expect(await all(host.os.fs.stream("/srv/v").read())).toEqual([]);
    await host.os.fs.stream("/srv/s").append(["5"]);
    expect(await all(host.os.fs.stream("/srv/s").read())).toEqual(["3", "4", "5"]);
    await host.os.fs.unlink("/srv/s");
    await host.os.fs.makeStream("/srv/s");
    expect(await all(host.os.fs.stream("/srv/s").read())).toEqual([]);
    await host.close();
  });

  test("an entry at a place of a journal is added once", async () => {
    await os.fs.makeStream("/srv/s");
    const store = new LastingStore();
    const { program, context } = openProgram();
    const first = await bootKernel({ store: store.life(), programs: [program] });
    await first.os.fs.makeStream("/srv/s");
    const pid = await first.os.spawn(program);
    const own = (await context).os;
    const args = { path: "/srv/s", entries: [new Uint8Array([65])], place: "add" };
    expect(await own.call("streamAppend", args)).toBe(1);
    await first.close();
    const next = openProgram();
    const second = await bootKernel({ store: store.life(), programs: [next.program] });
    await second.os.resume(pid);
    expect(await (await next.context).os.call("streamAppend", args)).toBe(1);
    expect(await all(second.os.fs.stream("/srv/s").read())).toEqual(["A"]);
    await second.close();
  });

  test("many that append at the same time lose nothing", async () => {
    await os.fs.makeStream("/srv/s");
    const stream = os.fs.stream("/srv/s");
    await Promise.all(Array.from({ length: 500 }, (_none, at) => stream.append([`${at}`])));
    expect(new Set(await all(stream.read())).size).toBe(500);
  });
});

test("what is no pipe or stream is told so, and what may not be done is refused", async () => {
  await os.fs.writeFile("/srv/f", "");
  await os.fs.makePipe("/srv/p");
  await os.fs.makeStream("/srv/s");
  await expect(os.fs.pipe("/srv/f").write("x")).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.pipe("/srv/s").read({ waitMs: 0 })).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.stream("/srv/p").append(["x"])).rejects.toMatchObject(refused("EINVAL"));
  await expect(all(os.fs.stream("/srv/none").read())).rejects.toMatchObject(refused("ENOENT"));
  await expect(os.fs.write("/srv/p", "x")).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.append("/srv/s", "x")).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.truncate("/srv/s", 0)).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.read("/srv/p", { offset: 1 })).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.makePipe("/srv/f")).rejects.toMatchObject(refused("EEXIST"));
  await expect(os.fs.makePipe("/srv/q", { capacity: 0 })).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.makePipe("/srv/q", { keep: 3 } as never)).rejects.toMatchObject(refused("EINVAL"));
  await expect(os.fs.stream("/srv/s").append([new Uint8Array(5 * 1024 * 1024)])).rejects.toMatchObject(
    refused("E2BIG"),
  );
  const poor = await processWith(kernel, ["fs.read:/srv/s", "fs.stat:/srv/**"]);
  await expect(poor.fs.stream("/srv/s").append(["x"])).rejects.toMatchObject(refused("EACCES"));
  expect(await all(poor.fs.stream("/srv/s").read())).toEqual([]);
});

test("whoever waits hears that the name is gone, however it went", async () => {
  await os.fs.makeStream("/srv/s");
  await os.fs.makePipe("/srv/p");
  await os.fs.makePipe("/srv/t/p");
  await os.fs.mkdir("/srv/empty");
  const followed = all(os.fs.stream("/srv/s").read({ follow: true }));
  const renamed = os.fs.pipe("/srv/p").read();
  const restored = os.fs.pipe("/srv/t/p").read();
  await tick();
  await os.fs.unlink("/srv/s");
  await os.fs.writeFile("/srv/f", "");
  await os.fs.rename("/srv/f", "/srv/p");
  await os.fs.restore("/srv/empty", "/srv/t");
  expect([await followed, await renamed, await restored]).toEqual([[], null, null]);
});

test("following as many as wanted ends, and leaves nothing waiting", async () => {
  await os.fs.makeStream("/srv/s");
  const stream = os.fs.stream("/srv/s");
  const first = await os.fs.stat("/srv/s");
  await stream.append(["a", "b"]);
  // Whoever goes on behind the position of the last has missed nothing.
  expect(await all(stream.read({ limit: 1, follow: true }))).toEqual(["a", "b"]);
  await stream.append(["c"]);
  expect(await all(stream.read({ limit: 2, after: first.generation }))).toEqual(["a", "b"]);
  expect(await all(stream.read({ limit: 3 }))).toEqual(["a", "b", "c"]);
  const changing = os.fs.setattr("/srv/s", { mode: 0o600 });
  await Promise.all([changing, stream.append(["d"]), stream.append(["e"], { durability: "flushed" })]);
  expect((await all(stream.read())).length).toBe(5);
});

test("what a reader does with an entry of a volatile stream is its own affair", async () => {
  await os.fs.makeStream("/srv/v", { isVolatile: true });
  const stream = os.fs.stream("/srv/v");
  await stream.append(["abc"]);
  for await (const { bytes } of stream.read()) bytes.fill(0);
  expect(await all(stream.read())).toEqual(["abc"]);
  await expect(all(stream.read({ after: (Date.now() * 2000) as Seq }))).rejects.toMatchObject(refused("ESTALE"));
});

test("what is too old to be kept is not read, although nothing has come since", async () => {
  for (const isVolatile of [true, false]) {
    const path = `/srv/short-${String(isVolatile)}`;
    await os.fs.makeStream(path, { keepMs: 20, isVolatile });
    const before = (await os.fs.stat(path)).modified ?? 0;
    await new Promise((go) => setTimeout(go, 5));
    await os.fs.stream(path).append(["old"]);
    expect((await os.fs.stat(path)).modified).toBeGreaterThan(before);
    await new Promise((go) => setTimeout(go, 30));

    expect(await all(os.fs.stream(path).read())).toEqual([]);
  }
});

test("a pipe keeps its pieces, and who waits for one, under another name", async () => {
  await os.fs.makePipe("/srv/before");
  await os.fs.pipe("/srv/before").write("x");
  await os.fs.rename("/srv/before", "/srv/after");
  expect(String(Buffer.from((await os.fs.pipe("/srv/after").read()) ?? []))).toBe("x");
  const waiting = os.fs.pipe("/srv/after").read();
  await os.fs.rename("/srv/after", "/srv/again");
  await os.fs.pipe("/srv/again").write("y");

  expect(String(Buffer.from((await waiting) ?? []))).toBe("y");
});

describe("a stream in shared memory", () => {
  test("is a stream like others, and memory for who may read and write it", async () => {
    await os.fs.makeStream("/srv/ring", { isShared: true, capacity: 4096 });
    const stream = os.fs.stream("/srv/ring");
    await stream.append(["one", "two"]);
    const ring = await stream.share();
    ring.append([new TextEncoder().encode("three")]);
    expect(await all(stream.read())).toEqual(["one", "two", "three"]);
    const [first] = await Array.fromAsync(stream.read({ limit: 1 }));
    expect(await all(stream.read({ after: first?.seq ?? SEQ_ZERO }))).toEqual(["two", "three"]);
    expect(first?.at).toBeGreaterThan(0);
    expect(await os.fs.readText("/srv/ring")).toBe("onetwothree");

    const reader = await processWith(kernel, ["fs.read", "fs.stat"]);
    expect(await all(reader.fs.stream("/srv/ring").read())).toEqual(["one", "two", "three"]);
    await expect(reader.fs.stream("/srv/ring").share()).rejects.toMatchObject(refused("EACCES"));
    await os.fs.makeStream("/srv/plain");
    await expect(os.fs.stream("/srv/plain").share()).rejects.toMatchObject(refused("EINVAL"));
    await expect(os.fs.makeStream("/srv/x", { isShared: true, keep: 7 })).rejects.toMatchObject(refused("EINVAL"));
    await expect(os.fs.makeStream("/srv/x", { capacity: 7 })).rejects.toMatchObject(refused("EINVAL"));
    await expect(stream.append([new Uint8Array(3000)])).rejects.toMatchObject(refused("E2BIG"));
  });

  test("is followed until its name or its reader's signal ends, and gives way to what is new", async () => {
    await os.fs.makeStream("/srv/ring", { isShared: true, capacity: 256 });
    const stream = os.fs.stream("/srv/ring");
    const followed = all(stream.read({ follow: true }));
    const stop = new AbortController();
    const given = all(stream.read({ follow: true, signal: stop.signal }));
    await tick();
    await stream.append(["a"]);
    await tick();
    stop.abort(new Error("enough"));
    await expect(given).rejects.toThrow("enough");
    await stream.append(["b"]);
    const ring = await stream.share();
    await vi.waitFor(() => expect(ring.next()).toBeDefined());
    await os.fs.unlink("/srv/ring");
    expect(await followed).toEqual(["a", "b"]);
    expect(ring.isOver).toBe(true);

    await os.fs.makeStream("/srv/ring", { isShared: true, capacity: 256 });
    const slow = stream.read({ follow: true });
    await stream.append(["a"]);
    await slow.next();
    const shared = await stream.share();
    for (let at = 0; at < 50; at++) shared.append([Buffer.from(String(at))]);
    expect((await all(stream.read())).at(-1)).toBe("49");
    await expect(slow.next()).rejects.toMatchObject(refused("ESTALE"));
  });
});

import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, type KernelEvent, toSeq } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createChance } from "../../../tools/simulation/random.ts";
import { bootKernel, processWith } from "./kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

describe("writing", () => {
  test("a file that does not exist is only created when asked", async () => {
    await expect(kernel.os.fs.write("/home/a", "x")).rejects.toMatchObject({ code: "ENOENT" });
    await kernel.os.fs.write("/home/a", "x", { create: "must" });
    await expect(kernel.os.fs.write("/home/a", "y", { create: "must" })).rejects.toMatchObject({ code: "EEXIST" });
    expect(await kernel.os.fs.readText("/home/a")).toBe("x");
  });

  test("compare-and-set lets one of many writers win", async () => {
    const { generation } = await kernel.os.fs.writeFile("/home/counter", "0");
    const tries = await Promise.allSettled(
      Array.from({ length: 10 }, (_, at) =>
        kernel.os.fs.write("/home/counter", String(at), { ifGeneration: generation }),
      ),
    );

    expect(tries.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    await expect(kernel.os.fs.write("/home/counter", "late", { ifGeneration: generation })).rejects.toMatchObject({
      code: "ESTALE",
    });
  });

  test("a change of attributes keeps the generation", async () => {
    const { generation } = await kernel.os.fs.writeFile("/home/a", "x");
    await kernel.os.fs.setattr("/home/a", { mime: "text/plain" });

    expect(await kernel.os.fs.stat("/home/a")).toMatchObject({ generation, mime: "text/plain", version: 1 });
  });

  test("fifty writers of new files in one directory all succeed", async () => {
    await Promise.all(Array.from({ length: 50 }, (_, at) => kernel.os.fs.writeFile(`/srv/many/${at}`, String(at))));

    expect(await kernel.os.fs.readdir("/srv/many")).toHaveLength(50);
  });

  test("fifty appends at once are all there", async () => {
    await Promise.all(
      Array.from({ length: 50 }, (_, at) => kernel.os.fs.append("/home/log", `${String(at).padStart(3, "0")}\n`)),
    );

    expect(
      (await kernel.os.fs.readText("/home/log"))
        .split("\n")
        .filter((line) => line !== "")
        .toSorted(),
    ).toEqual(Array.from({ length: 50 }, (_, at) => String(at).padStart(3, "0")));
  });

  test("random writes, appends and cuts give the bytes of a plain buffer", async () => {
    const chance = createChance(42);
    let model = Buffer.alloc(0);
    await kernel.os.fs.writeFile("/home/file", "");
    for (let round = 0; round < 300; round++) {
      const bytes = Buffer.alloc(chance.between(0, chance.next() < 0.1 ? 60_000 : 3000), 1 + (round % 255));
      const kind = chance.between(0, 9);
      if (kind < 5) {
        const offset = chance.between(0, model.length + 500);
        await kernel.os.fs.write("/home/file", bytes, { offset });
        const next = Buffer.alloc(Math.max(model.length, offset + bytes.length));
        model.copy(next);
        bytes.copy(next, offset);
        model =
          bytes.length === 0 && offset > model.length
            ? Buffer.concat([model, Buffer.alloc(offset - model.length)])
            : next;
      } else if (kind < 8) {
        await kernel.os.fs.append("/home/file", bytes);
        model = Buffer.concat([model, bytes]);
      } else if (kind === 8) {
        const size = chance.between(0, model.length + 100);
        await kernel.os.fs.truncate("/home/file", size);
        model =
          size <= model.length ? model.subarray(0, size) : Buffer.concat([model, Buffer.alloc(size - model.length)]);
      } else {
        await kernel.os.fs.write("/home/file", bytes);
        model = Buffer.from(bytes);
      }
      const found = await kernel.os.fs.read("/home/file");
      if (Buffer.compare(found, model) !== 0)
        throw new TypeError(`round ${round} (kind ${kind}): ${found.length} bytes found, ${model.length} expected`);
      const offset = chance.between(0, model.length + 10);
      expect(
        Buffer.compare(
          await kernel.os.fs.read("/home/file", { offset, length: 777 }),
          model.subarray(offset, offset + 777),
        ),
      ).toBe(0);
    }
  });

  test("content above the inline bound is in the object store and comes back after a restart", async () => {
    const [store, objects] = [new MemoryMetastore(), new MemoryObjectStore()];
    const first = await bootKernel({ store, objects });
    const large = Buffer.alloc(3_000_000, 7);
    await first.os.fs.writeFile("/home/large", large);
    await first.os.fs.append("/home/large", "tail");
    const second = await bootKernel({ store, objects });

    const back = await second.os.fs.read("/home/large");

    expect(back.length).toBe(3_000_004);
    expect(text(back.subarray(2_999_999))).toBe("\u0007tail");
  });
});

describe("names", () => {
  test("missing directories on the way are made with the file", async () => {
    await kernel.os.fs.writeFile("/a/b/c/file", "x");

    expect(await kernel.os.fs.stat("/a/b")).toMatchObject({ type: "directory" });
  });

  test("a rename of a directory moves everything below it", async () => {
    await kernel.os.fs.writeFile("/a/b/file", "x");
    await kernel.os.fs.stat("/a/b/file");
    await kernel.os.fs.rename("/a", "/z");

    await expect(kernel.os.fs.stat("/a/b/file")).rejects.toMatchObject({ code: "ENOENT" });
    expect(await kernel.os.fs.readText("/z/b/file")).toBe("x");
  });

  test("a rename replaces a file, and refuses to replace a directory that holds something", async () => {
    await kernel.os.fs.writeFile("/home/a", "new");
    await kernel.os.fs.writeFile("/home/b", "old");
    await kernel.os.fs.writeFile("/home/full/file", "x");
    await kernel.os.fs.mkdir("/home/empty");
    await kernel.os.fs.rename("/home/a", "/home/b");

    expect(await kernel.os.fs.readText("/home/b")).toBe("new");
    await expect(kernel.os.fs.rename("/home/empty", "/home/full")).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await expect(kernel.os.fs.rename("/home", "/home/sub")).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("a directory is removed only when it is empty, however creators race", async () => {
    await kernel.os.fs.writeFile("/home/dir/file", "x");
    await expect(kernel.os.fs.unlink("/home/dir")).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await kernel.os.fs.unlink("/home/dir/file");

    const [removed, created] = await Promise.allSettled([
      kernel.os.fs.unlink("/home/dir"),
      kernel.os.fs.write("/home/dir/late", "x", { create: "must" }),
    ]);

    const names = (await kernel.os.fs.readdir("/home")).map(({ name }) => name);
    if (created.status === "fulfilled") expect(await kernel.os.fs.readText("/home/dir/late")).toBe("x");
    else expect(names).not.toContain("dir");
    expect(removed.status === "fulfilled" || created.status === "fulfilled").toBe(true);
  });

  test("unlink with recursive removes a whole tree", async () => {
    await Promise.all(Array.from({ length: 30 }, (_, at) => kernel.os.fs.writeFile(`/srv/tree/${at % 3}/${at}`, "x")));
    await kernel.os.fs.unlink("/srv/tree", { recursive: true });

    await expect(kernel.os.fs.stat("/srv/tree")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("links are followed, loops are ELOOP, and removing one leaves its target", async () => {
    await kernel.os.fs.writeFile("/home/target/file", "x");
    await kernel.os.fs.link("/home/link", "target");
    await kernel.os.fs.link("/home/one", "/home/two");
    await kernel.os.fs.link("/home/two", "/home/one");

    expect(await kernel.os.fs.readText("/home/link/file")).toBe("x");
    await expect(kernel.os.fs.stat("/home/one")).rejects.toMatchObject({ code: "ELOOP" });
    await kernel.os.fs.unlink("/home/link");
    expect(await kernel.os.fs.readText("/home/target/file")).toBe("x");
    expect(await kernel.os.fs.exists("/home/link/file")).toBe(false);
  });

  test("names of every script, astral ones and percent signs come back as they were", async () => {
    const names = ["été", "日本語", "😀 face", "100%", "a%20b", "dot.", "..x", " space "];
    for (const name of names) await kernel.os.fs.writeFile(`/srv/names/${name}`, name);

    expect((await kernel.os.fs.readdir("/srv/names")).map(({ name }) => name).toSorted()).toEqual(names.toSorted());
    for (const name of names) expect(await kernel.os.fs.readText(`/srv/names/${name}`)).toBe(name);
  });

  test("bad paths are refused with what is wrong with them", async () => {
    await expect(kernel.os.fs.stat("")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(kernel.os.fs.stat("/a\0b")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(kernel.os.fs.stat(`/${"x".repeat(256)}`)).rejects.toMatchObject({ code: "ENAMETOOLONG" });
    await expect(kernel.os.fs.stat(`/${"x/".repeat(3000)}`)).rejects.toMatchObject({ code: "ENAMETOOLONG" });
    await kernel.os.fs.writeFile("/home/file", "x");
    await expect(kernel.os.fs.stat("/home/file/below")).rejects.toMatchObject({ code: "ENOTDIR" });
    expect((await kernel.os.fs.stat("//home/./x/../file")).path).toBe("/home/file");
  });
});

describe("copies", () => {
  const large = (size: number, seed = 1): Uint8Array => {
    const bytes = Buffer.alloc(size);
    for (let at = 0; at + 8 <= size; at += 4096) bytes.writeDoubleLE(at + seed, at);
    return bytes;
  };

  test("share content with their original until one of both is written", async () => {
    const content = large(3 * 1024 * 1024 + 5);
    await kernel.os.fs.writeFile("/srv/a", content, { mime: "image/png" });
    const stored = async (): Promise<number> => {
      let count = 0;
      for await (const id of kernel.host.objects.list()) if (id !== undefined) count++;
      return count;
    };
    const before = await stored();
    expect(await kernel.os.fs.copy("/srv/a", "/srv/d/b")).toMatchObject({ size: content.length });
    await kernel.os.fs.writeFile("/srv/c", large(5 * 1024 * 1024, 7));
    await kernel.os.fs.copy("/srv/a", "/srv/c");
    expect(await stored()).toBe(before + 5);
    expect((await kernel.os.fs.stat("/srv/d/b")).mime).toBe("image/png");
    await kernel.os.fs.write("/srv/a", "changed", { offset: 10 });
    for (const path of ["/srv/d/b", "/srv/c"]) expect(Buffer.compare(await kernel.os.fs.read(path), content)).toBe(0);
    await kernel.os.fs.unlink("/srv/a");
    await kernel.os.call("collect", {});
    expect(Buffer.compare(await kernel.os.fs.read("/srv/c"), content)).toBe(0);
    await kernel.os.fs.copy("/srv/c", "/srv/c");
    expect((await kernel.os.fs.read("/srv/c")).length).toBe(content.length);
    expect((await kernel.os.call("checkStore", {})).problems).toEqual([]);
  });

  test("are what the original was at one moment, whoever writes to it or to them meanwhile", async () => {
    const texts = ["a".repeat(20_000), "b".repeat(50_000), "c".repeat(9)];
    await kernel.os.fs.writeFile("/srv/a", texts[0] ?? "");
    const writing = Promise.all(texts.map((text) => kernel.os.fs.writeFile("/srv/a", text)));
    const copying = Promise.all(Array.from({ length: 20 }, (_, at) => kernel.os.fs.copy("/srv/a", `/srv/c${at % 3}`)));
    await Promise.all([writing, copying]);
    for (const at of [0, 1, 2]) expect(texts).toContain(await kernel.os.fs.readText(`/srv/c${at}`));
  });

  test("of files and pieces of any size need no more memory than a piece", async () => {
    const piece = large(64 * 1024 * 1024);
    for (let at = 0; at < 5; at++) await kernel.os.fs.append("/srv/big", piece, { create: "maybe" });
    const { size } = await kernel.os.fs.stat("/srv/big");
    expect(size).toBe(320 * 1024 * 1024);
    await expect(kernel.os.fs.read("/srv/big")).rejects.toMatchObject({ code: "EFBIG" });
    expect(await kernel.os.fs.copy("/srv/big", "/srv/copy")).toMatchObject({ size });
    const range = { offset: 300 * 1024 * 1024, length: 8192 };
    expect(await kernel.os.fs.read("/srv/copy", range)).toEqual(await kernel.os.fs.read("/srv/big", range));
  });

  test("and large files share with other versions of themselves what is the same, wherever it stands", async () => {
    const chance = createChance(7);
    const content = Buffer.alloc(40 * 1024 * 1024);
    for (let at = 0; at + 4 <= content.length; at += 4) content.writeUInt32LE(Math.floor(chance.next() * 2 ** 32), at);
    const moved = Buffer.concat([content.subarray(0, 1000), Buffer.from("inserted"), content.subarray(1000)]);
    const stored = async (): Promise<number> => {
      let count = 0;
      for await (const id of kernel.host.objects.list()) if (id !== undefined) count++;
      return count;
    };
    await kernel.os.fs.writeFile("/srv/one", content);
    const first = await stored();
    expect(first).toBeGreaterThan(20);
    await kernel.os.fs.writeFile("/srv/two", moved);
    expect((await stored()) - first).toBeLessThanOrEqual(3);
    expect(Buffer.compare(await kernel.os.fs.read("/srv/two"), moved)).toBe(0);
    // Zeros have no cuts of their own: they end at the bound.
    await kernel.os.fs.writeFile("/srv/zeros", Buffer.alloc(20 * 1024 * 1024 + 3));
    expect((await kernel.os.fs.read("/srv/zeros")).length).toBe(20 * 1024 * 1024 + 3);
  });

  test("are refused of what is no file, and to what is none", async () => {
    await kernel.os.fs.mkdir("/srv/d");
    await kernel.os.fs.writeFile("/srv/a", "1");
    await expect(kernel.os.fs.copy("/srv/d", "/srv/x")).rejects.toMatchObject({ code: "EISDIR" });
    await expect(kernel.os.fs.copy("/srv/a", "/srv/d")).rejects.toMatchObject({ code: "EISDIR" });
    await expect(kernel.os.fs.copy("/srv/none", "/srv/x")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(kernel.os.fs.copy("/srv/a", "/proc/1/status")).rejects.toMatchObject({
      code: expect.stringMatching(/ENOTSUP|EACCES|EROFS/) as unknown,
    });
  });
});

describe("races", () => {
  test("two directories cannot be moved below each other", async () => {
    await kernel.os.fs.writeFile("/a/fa", "x");
    await kernel.os.fs.writeFile("/b/fb", "x");

    const moves = await Promise.allSettled([kernel.os.fs.rename("/a", "/b/a"), kernel.os.fs.rename("/b", "/a/b")]);

    expect(moves.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
    expect((await kernel.os.fs.readdir("/")).map(({ name }) => name).some((name) => name === "a" || name === "b")).toBe(
      true,
    );
  });

  test("a write that loses against a link does not follow it out of the writer's rights", async () => {
    await kernel.os.fs.writeFile("/secret/f", "safe");
    const os = await processWith(kernel, ["fs.*:/srv/**"]);
    for (let round = 0; round < 20; round++) {
      await Promise.allSettled([
        os.fs.link(`/srv/x${round}`, "/secret/f"),
        os.fs.writeFile(`/srv/x${round}`, "stolen"),
        os.fs.append(`/srv/x${round}`, "stolen"),
      ]);
    }

    expect(await kernel.os.fs.readText("/secret/f")).toBe("safe");
  });

  test("a recursive removal ends although its directory is moved meanwhile", async () => {
    for (let at = 0; at < 10; at++) await kernel.os.fs.writeFile(`/d/${at}`, "x");

    await Promise.allSettled([kernel.os.fs.unlink("/d", { recursive: true }), kernel.os.fs.rename("/d", "/e")]);

    expect(await kernel.os.fs.exists("/d")).toBe(false);
  });

  test("narrowed rights hold for what lies below a moved or removed directory", async () => {
    await kernel.os.fs.writeFile("/srv/a/secret/f", "hidden");
    const os = await processWith(kernel, ["fs.*:/srv/**", "deny fs.*:/srv/a/secret/**"]);

    await expect(os.fs.rename("/srv/a", "/srv/b")).rejects.toMatchObject({ code: "EACCES" });
    await expect(os.fs.unlink("/srv/a", { recursive: true })).rejects.toMatchObject({ code: "EACCES" });
    expect(await kernel.os.fs.readText("/srv/a/secret/f")).toBe("hidden");
  });

  test("many appends leave few extents, and the file can be removed", async () => {
    const piece = Buffer.alloc(16 * 1024, 1);
    for (let at = 0; at < 300; at++) await kernel.os.fs.append("/home/long", piece);
    const extents = await kernel.host.store.scan({ from: "x/", to: "x0" }, { limit: 1000 });

    expect(extents.length).toBeLessThan(100);
    expect((await kernel.os.fs.read("/home/long")).length).toBe(300 * 16 * 1024);
    await kernel.os.fs.unlink("/home/long");
    expect(await kernel.host.store.scan({ from: "x/", to: "x0" }, { limit: 10 })).toEqual([]);
  });

  test("offsets that are no offsets are refused", async () => {
    await kernel.os.fs.writeFile("/home/a", "x");

    await expect(kernel.os.fs.read("/home/a", { offset: -1 })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(kernel.os.fs.write("/home/a", "x", { offset: 0.5 })).rejects.toMatchObject({ code: "EINVAL" });
    await expect(kernel.os.fs.write("/home/a", "x", { offset: 2 ** 40 })).rejects.toMatchObject({ code: "EFBIG" });
  });
});

describe("what a file is", () => {
  test("a copy keeps when its target was made, and changes its content", async () => {
    const { fs } = kernel.os;
    await fs.writeFile("/srv/a", "A");
    await fs.writeFile("/srv/b", "BB");
    const before = await fs.stat("/srv/b");
    await fs.copy("/srv/a", "/srv/b");
    const after = await fs.stat("/srv/b");

    expect([after.created, after.version]).toEqual([before.created, before.version + 1]);
    expect(after.generation).toBeGreaterThan(before.generation);
  });

  test("its type does not change, and a content that looks like ours is a content", async () => {
    const { fs } = kernel.os;
    const manifest = JSON.stringify({ type: "chunked_manifest", chunks: [{ hash: "0".repeat(64), size: 3 }] });
    await fs.writeFile("/srv/a", manifest);
    for (const type of ["directory", "pipe", "stream", "file"] as const)
      await expect((async () => kernel.os.call("setattr", { path: "/srv/a", type }))()).rejects.toMatchObject({
        code: "EEXIST",
      });

    expect(await fs.readText("/srv/a")).toBe(manifest);
    await expect(fs.link("/srv/l", "/srv/l")).rejects.toMatchObject({ code: "ELOOP" });
  });
});

describe("handles", () => {
  test("a handle reads and writes on after its name is gone, and then the content goes too", async () => {
    await kernel.os.fs.writeFile("/home/a", "before");
    const handle = await kernel.os.fs.open("/home/a", ["read", "write"]);
    await kernel.os.fs.unlink("/home/a");

    await handle.write("after");

    expect(text(await handle.read())).toBe("after");
    await handle.close();
    await handle.close();
    await expect(handle.read()).rejects.toMatchObject({ code: "EBADF" });
    expect(await kernel.host.store.scan({ from: "x/", to: "x0" }, { limit: 10 })).toEqual([]);
  });

  test("a virtual file is read through a handle as by its path", async () => {
    await using status = await kernel.os.fs.open("/proc/1/status", ["read", "write"]);

    expect(text(await status.read())).toBe(await kernel.os.fs.readText("/proc/1/status"));
    expect(await status.stat()).toEqual(await kernel.os.fs.stat("/proc/1/status"));
    await expect(status.write("x")).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(kernel.os.fs.open("/proc/1", ["read"])).rejects.toMatchObject({ code: "EISDIR" });
  });

  test("a handle has only the rights it was opened with", async () => {
    await kernel.os.fs.writeFile("/home/a", "x");
    await using handle = await kernel.os.fs.open("/home/a", ["read"]);

    await expect(handle.write("y")).rejects.toMatchObject({ code: "EBADF" });
  });
});

describe("watching", () => {
  test("a watch resumes from a position without loss and without repetition", async () => {
    for (let at = 0; at < 20; at++) await kernel.os.fs.writeFile(`/home/f${at % 4}`, String(at));
    const seen: KernelEvent[] = [];
    const first = kernel.os.fs.watch("/home/**", { after: toSeq(0) });
    for await (const event of first) {
      seen.push(event);
      if (seen.length === 7) break;
    }
    await kernel.os.fs.writeFile("/home/late", "x");
    for await (const event of kernel.os.fs.watch("/home/**", { after: seen.at(-1)?.seq ?? toSeq(0) })) {
      seen.push(event);
      if (event.data["path"] === "/home/late") break;
    }

    const written = seen.filter(({ name }) => name === "file.written");
    expect(written).toHaveLength(21);
    expect(new Set(written.map(({ seq }) => seq)).size).toBe(21);
  });

  test("a watch follows links to what it watches", async () => {
    const { fs } = kernel.os;
    await fs.mkdir("/srv/real");
    await fs.link("/srv/way", "real");
    const events = fs.watch("/srv/way/**");
    const first = events.next();
    await fs.writeFile("/srv/way/x", "1");
    expect((await first).value?.data["path"]).toBe("/srv/real/x");
    await events.return();
  });

  test("a watch sees only what its glob names", async () => {
    const abort = new AbortController();
    const events = kernel.os.fs.watch("/srv/*.txt", { signal: abort.signal });
    await kernel.os.fs.writeFile("/srv/a.md", "x");
    await kernel.os.fs.writeFile("/srv/deep/a.txt", "x");
    await kernel.os.fs.writeFile("/srv/a.txt", "x");

    const { value } = await events.next();

    expect(value).toMatchObject({ name: "file.written", data: { path: "/srv/a.txt", created: true } });
    abort.abort();
    expect((await events.next()).done).toBe(true);
  });
});

describe("virtual trees", () => {
  test("every virtual file reads as text, and as JSON where it has a value", async () => {
    for (const path of [
      "/sys/version",
      "/sys/mounts",
      "/sys/errors",
      "/sys/errno",
      "/sys/faults",
      "/sys/events",
      "/sys/sched",
      "/proc/1/status",
      "/dev/model/offline",
    ]) {
      expect((await kernel.os.fs.readText(path)).length).toBeGreaterThan(0);
      JSON.parse(await kernel.os.fs.readText(`${path}.json`));
    }
    expect(await kernel.os.fs.readText("/proc/self/status")).toContain("owner");
    expect((await kernel.os.fs.read("/dev/random", { length: 8 })).length).toBe(8);
    expect((await kernel.os.fs.readdir("/")).map(({ name }) => name)).toEqual(
      "__sys__ dev etc home lib proc srv sys tmp".split(" "),
    );
  });

  test("writing where nothing can be written says so", async () => {
    await expect(kernel.os.fs.writeFile("/sys/new", "x")).rejects.toMatchObject({ code: "EROFS" });
    await expect(kernel.os.fs.write("/sys/version", "x")).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(kernel.os.fs.exec("/sys/version")).rejects.toMatchObject({ code: "ENOEXEC" });
    await expect(kernel.os.fs.read("/proc")).rejects.toMatchObject({ code: "EISDIR" });
  });
});

import { spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFolder } from "@ergos/drivers/folder";
import type { Kernel } from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel } from "../../kernel/test/kernel-fixture.ts";

let dir: string;
let kernel: Kernel;
beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), "ergos-folder-"));
  mkdirSync(join(dir, "in/deep"), { recursive: true });
  writeFileSync(join(dir, "in/file"), "inside");
  writeFileSync(join(dir, "outside"), "outside");
  kernel = await bootKernel();
});
afterEach(async () => {
  await kernel.close();
  rmSync(dir, { recursive: true, force: true });
});

const mount = async (options: { writable?: boolean; followLinks?: boolean } = {}): Promise<void> =>
  await kernel.mount("/mnt", await openFolder({ path: join(dir, "in"), ...options }));

describe("reading a folder", () => {
  test("files and directories are there, and nothing can be changed", async () => {
    await mount();

    expect((await kernel.os.fs.readdir("/mnt")).map(({ name, type }) => [name, type])).toEqual([
      ["deep", "directory"],
      ["file", "file"],
    ]);
    expect(await kernel.os.fs.readText("/mnt/file")).toBe("inside");
    expect((await kernel.os.fs.stat("/mnt/file")).size).toBe(6);
    await expect(kernel.os.fs.writeFile("/mnt/file", "x")).rejects.toMatchObject({ code: "EROFS" });
    await expect(kernel.os.fs.unlink("/mnt/file")).rejects.toMatchObject({ code: "EROFS" });
    await expect(kernel.os.fs.mkdir("/mnt/new")).rejects.toMatchObject({ code: "EROFS" });
    await expect(kernel.os.fs.rename("/mnt/file", "/home/file")).rejects.toMatchObject({ code: "EXDEV" });
  });

  test("no path and no link leads out of it", async () => {
    symlinkSync("../outside", join(dir, "in/relative"));
    symlinkSync(join(dir, "outside"), join(dir, "in/absolute"));
    symlinkSync("..", join(dir, "in/deep/up"));
    symlinkSync("deep/up/file", join(dir, "in/fine"));
    await mount({ followLinks: true });

    await expect(kernel.os.fs.readText("/mnt/relative")).rejects.toMatchObject({ code: "EACCES" });
    await expect(kernel.os.fs.readText("/mnt/absolute")).rejects.toMatchObject({ code: "EACCES" });
    await expect(kernel.os.fs.readText("/mnt/deep/up/../outside")).rejects.toMatchObject({ code: "ENOENT" });
    expect(await kernel.os.fs.readText("/mnt/fine")).toBe("inside");
    expect((await kernel.os.fs.stat("/mnt/../mnt/file")).path).toBe("/mnt/file");
  });

  test("links are not followed unless the mount says so", async () => {
    symlinkSync("file", join(dir, "in/link"));
    await mount();

    await expect(kernel.os.fs.readText("/mnt/link")).rejects.toMatchObject({ code: "ELOOP" });
  });

  test.each([false, true])(
    "a link can be looked at, moved and removed as itself (followLinks: %s)",
    async (followLinks) => {
      symlinkSync("../outside", join(dir, "in/out"));
      symlinkSync("file", join(dir, "in/near"));
      await mount({ writable: true, followLinks });
      const { fs } = kernel.os;
      for (const [name, linkText] of [
        ["out", "../outside"],
        ["near", "file"],
      ])
        expect(await fs.stat(`/mnt/${name}`, { noFollow: true })).toMatchObject({ type: "link", linkText });
      expect(await fs.exists("/mnt/out")).toBe(false);
      await fs.rename("/mnt/near", "/mnt/deep/far");
      await fs.unlink("/mnt/out");
      await fs.unlink("/mnt/deep", { recursive: true });
      expect(readFileSync(join(dir, "outside"), "utf8")).toBe("outside");
      expect((await fs.readdir("/mnt")).map(({ name }) => name)).toEqual(["file"]);
    },
  );

  test("somebody who swaps a directory for a link underneath gets nothing out", async () => {
    mkdirSync(join(dir, "secret"));
    writeFileSync(join(dir, "secret/file"), "secret");
    mkdirSync(join(dir, "in/door"));
    writeFileSync(join(dir, "in/door/file"), "door");
    await mount({ followLinks: true });
    const script = `const fs = require("fs"); const [door, target] = process.argv.slice(1);
      for (;;) { fs.renameSync(door, door + ".away"); fs.symlinkSync(target, door); fs.unlinkSync(door); fs.renameSync(door + ".away", door); }`;
    const swapper = spawn(process.execPath, ["-e", script, join(dir, "in/door"), join(dir, "secret")], {
      stdio: "ignore",
    });
    try {
      const seen = new Set<string>();
      for (let round = 0; round < 400; round++) {
        seen.add(
          await kernel.os.fs.readText("/mnt/door/file").catch((error: unknown) => (error as { code: string }).code),
        );
      }
      expect(seen.has("secret")).toBe(false);
      expect(seen.has("door")).toBe(true);
    } finally {
      swapper.kill("SIGKILL");
    }
  });

  test("pipes and devices are not opened", async () => {
    spawnSync("mkfifo", [join(dir, "in/pipe")]);
    await mount();

    await expect(kernel.os.fs.read("/mnt/pipe")).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  test("a file of a gibibyte is refused whole, and read in parts", async () => {
    writeFileSync(join(dir, "in/huge"), "");
    truncateSync(join(dir, "in/huge"), 1024 ** 3);
    await mount();

    await expect(kernel.os.fs.read("/mnt/huge")).rejects.toMatchObject({ code: "EFBIG" });
    expect((await kernel.os.fs.read("/mnt/huge", { offset: 1024 ** 3 - 10, length: 100 })).length).toBe(10);
  });

  test("a binary file keeps its bytes, and one that has vanished is ENOENT", async () => {
    writeFileSync(join(dir, "in/binary"), Buffer.from([0, 255, 128, 10]));
    await mount();
    expect(Array.from(await kernel.os.fs.read("/mnt/binary"))).toEqual([0, 255, 128, 10]);

    rmSync(join(dir, "in/binary"));

    await expect(kernel.os.fs.read("/mnt/binary")).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("a folder that is none is refused", async () => {
    await expect(openFolder({ path: join(dir, "absent") })).rejects.toMatchObject({ code: "ENOENT" });
    await expect(openFolder({ path: join(dir, "outside") })).rejects.toMatchObject({ code: "ENOTDIR" });
  });
});

describe("writing a folder", () => {
  test("files are made, replaced whole, changed in place, moved and removed", async () => {
    await mount({ writable: true });
    await kernel.os.fs.writeFile("/mnt/new", "0123456789");
    await kernel.os.fs.write("/mnt/new", "xx", { offset: 2 });
    await kernel.os.fs.rename("/mnt/new", "/mnt/deep/moved");
    writeFileSync(join(dir, "in/script"), "x", { mode: 0o755 });
    await kernel.os.fs.writeFile("/mnt/script", "y");

    expect(readFileSync(join(dir, "in/deep/moved"), "utf8")).toBe("01xx456789");
    expect(statSync(join(dir, "in/script")).mode & 0o777).toBe(0o755);
    await kernel.os.fs.unlink("/mnt/deep/moved");
    await kernel.os.fs.mkdir("/mnt/made");
    await expect(kernel.os.fs.write("/mnt/absent", "x")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(kernel.os.fs.write("/mnt/file", "x", { create: "must" })).rejects.toMatchObject({ code: "EEXIST" });
    expect(statSync(join(dir, "in/made")).isDirectory()).toBe(true);
  });

  test("what the namespace does elsewhere works here: missing directories, appends, sizes, whole trees", async () => {
    await mount({ writable: true });
    const { fs } = kernel.os;
    await fs.writeFile("/mnt/a/b/c", "1");
    await fs.mkdir("/mnt/x/y/z");
    await Promise.all(Array.from({ length: 20 }, () => fs.append("/mnt/log", "line\n")));
    expect((await fs.stat("/mnt/log")).size).toBe(100);
    await fs.truncate("/mnt/log", 4);
    expect(readFileSync(join(dir, "in/log"), "utf8")).toBe("line");
    symlinkSync("../outside", join(dir, "in/a/link"));
    symlinkSync("/", join(dir, "in/a/b/root"));
    await fs.unlink("/mnt/a", { recursive: true });
    await expect(fs.unlink("/mnt/x")).rejects.toMatchObject({ code: "ENOTEMPTY", path: "/mnt/x" });
    await expect(fs.unlink("/mnt", { recursive: true })).rejects.toMatchObject({ code: "EBUSY" });
    await expect(fs.rename("/mnt", "/elsewhere")).rejects.toMatchObject({ code: "EBUSY" });
    await expect(fs.rename("/mnt/x", "/mnt/x/y/w")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(fs.rename("/mnt/file", "/mnt/x")).rejects.toMatchObject({ path: "/mnt/x" });
    await expect(fs.clone("/mnt/file", "/mnt/copy")).rejects.toMatchObject({ code: "ENOTSUP" });
    expect(readFileSync(join(dir, "outside"), "utf8")).toBe("outside");
    expect((await fs.readdir("/mnt")).map(({ name }) => name)).toEqual(["deep", "file", "log", "x"]);
  });

  test("the nearest mount has a path, and directories on the way to it are there", async () => {
    await mount({ writable: true });
    mkdirSync(join(dir, "other"));
    writeFileSync(join(dir, "other/x"), "other");
    await kernel.mount("/mnt/on/the/way", await openFolder({ path: join(dir, "other"), writable: true }));
    const { fs } = kernel.os;
    const names = async (path: string): Promise<readonly string[]> => (await fs.readdir(path)).map(({ name }) => name);

    expect([await names("/mnt"), await names("/mnt/on"), await names("/mnt/on/the")]).toEqual([
      ["deep", "file", "on"],
      ["the"],
      ["way"],
    ]);
    expect([await fs.readText("/mnt/on/the/way/x"), await fs.readText("/mnt/file")]).toEqual(["other", "inside"]);
    await expect(fs.rename("/mnt/file", "/mnt/on/the/way/y")).rejects.toMatchObject({ code: "EXDEV" });
    for (const path of ["/mnt", "/mnt/on/the/way"])
      await expect(fs.unlink(path, { recursive: true })).rejects.toMatchObject({ code: "EBUSY" });
    await fs.writeFile("/mnt/on/file", "new");
    expect(await names("/mnt/on")).toEqual(["file", "the"]);
  });

  test("handles work on it as paths do, and end with the name or the mount", async () => {
    await mount({ writable: true });
    const { fs } = kernel.os;
    const file = await fs.open("/mnt/file", ["read", "write"]);
    const into = new Uint8Array(3);

    await file.write("IN", { offset: 0 });
    await file.write("!", { append: true });
    expect(String(Buffer.from(await file.read()))).toBe("INside!");
    expect([await file.readInto(into, 2), String(Buffer.from(into))]).toEqual([3, "sid"]);
    expect(await file.truncate(4)).toMatchObject({ size: 4 });
    expect(await file.stat()).toMatchObject({ path: "/mnt/file", size: 4 });
    await expect(file.setattr({ mode: 0o600 })).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(fs.open("/mnt/deep", ["read"])).rejects.toMatchObject({ code: "EISDIR" });
    await expect(fs.open("/mnt/none", ["read"])).rejects.toMatchObject({ code: "ENOENT" });
    await fs.rename("/mnt/file", "/mnt/other");
    await expect(file.read()).rejects.toMatchObject({ code: "ENOENT" });
    await fs.rename("/mnt/other", "/mnt/file");
    await kernel.unmount("/mnt");
    await expect(file.read()).rejects.toMatchObject({ code: "ENODEV" });
    await file.close();
  });

  test("a tree is not removed through a link that leads to it", async () => {
    await mount({ writable: true, followLinks: true });
    writeFileSync(join(dir, "in/deep/kept"), "kept");
    symlinkSync("deep", join(dir, "in/link"));
    expect(await kernel.os.fs.readText("/mnt/link/kept")).toBe("kept");
    await kernel.os.fs.unlink("/mnt/link", { recursive: true });
    expect((await kernel.os.fs.readdir("/mnt")).map(({ name }) => name)).toEqual(["deep", "file"]);
    expect(readFileSync(join(dir, "in/deep/kept"), "utf8")).toBe("kept");
  });

  test("a content has a generation, which also changes from outside", async () => {
    await mount({ writable: true });
    const { fs } = kernel.os;
    await fs.writeFile("/mnt/text", "one two three");
    const { generation } = await fs.stat("/mnt/text");
    writeFileSync(join(dir, "in/text"), "something else");
    await expect(fs.write("/mnt/text", "lost", { ifGeneration: generation })).rejects.toMatchObject({ code: "ESTALE" });
    expect(readFileSync(join(dir, "in/text"), "utf8")).toBe("something else");
  });

  test("what is changed through the namespace is told there, and recorded", async () => {
    await mount({ writable: true });
    const { fs } = kernel.os;
    const from = (await fs.writeFile("/srv/mark", "")).generation;
    await fs.writeFile("/mnt/new/f", "1");
    await fs.rename("/mnt/new/f", "/mnt/new/g");
    await fs.unlink("/mnt/new", { recursive: true });
    const seen: unknown[] = [];
    for await (const { name, data } of fs.watch("/mnt/**", { after: from })) {
      seen.push([name, data["path"]]);
      if (seen.length === 5) break;
    }
    expect(seen).toEqual([
      ["directory.created", "/mnt/new"],
      ["file.written", "/mnt/new/f"],
      ["file.renamed", "/mnt/new/g"],
      ["file.deleted", "/mnt/new/g"],
      ["directory.deleted", "/mnt/new"],
    ]);
  });

  test("a copy comes whole, into directories that are not there, and a file is copied onto itself unharmed", async () => {
    await mount({ writable: true });
    const { fs } = kernel.os;
    const large = new Uint8Array(9 * 1024 * 1024).fill(7);
    await fs.writeFile("/srv/large", large);
    await fs.writeFile("/srv/empty", "");
    await fs.copy("/srv/large", "/mnt/new/large");
    await fs.copy("/srv/empty", "/mnt/other/empty");
    await fs.copy("/mnt/new/large", "/mnt/new/large");
    expect(statSync(join(dir, "in/new/large")).size).toBe(large.length);
    expect(statSync(join(dir, "in/other/empty")).size).toBe(0);
    await Promise.all(Array.from({ length: 5 }, (_, at) => fs.writeFile(`/mnt/at/once/${at}`, "x")));
    expect(await fs.readdir("/mnt/at/once")).toHaveLength(5);
  });

  test("a file stays whose it is, and has its other names still", async () => {
    await mount({ writable: true });
    const [file, other] = [join(dir, "in/file"), join(dir, "in/other")];
    chownSync(file, 1234, 2345);
    chmodSync(file, 0o640);
    await kernel.os.fs.writeFile("/mnt/file", "replaced");
    expect(statSync(file)).toMatchObject({ uid: 1234, gid: 2345, mode: 0o100640 });

    linkSync(file, other);
    await kernel.os.fs.writeFile("/mnt/file", "both");
    expect(readFileSync(other, "utf8")).toBe("both");
    expect(statSync(other).nlink).toBe(2);
  });

  test("what killed hosts have left is gone with the first write, and what is being written is not", async () => {
    const name = (digit: string): string => join(dir, `in/.ergos-${digit.repeat(8)}-0000-4000-8000-000000000000`);
    for (const digit of ["a", "b"]) writeFileSync(name(digit), "left");
    utimesSync(name("a"), 1, 1);
    await mount({ writable: true });
    await kernel.os.fs.writeFile("/mnt/new", "x");
    expect([existsSync(name("a")), existsSync(name("b"))]).toEqual([false, true]);
  });

  test("what a killed host was writing is not seen, and keeps no directory", async () => {
    await mount({ writable: true });
    const left = ".ergos-01234567-89ab-cdef-0123-456789abcdef";
    writeFileSync(join(dir, "in/deep", left), "half");
    writeFileSync(join(dir, "in/deep/.ergos-mine"), "mine");
    expect((await kernel.os.fs.readdir("/mnt/deep")).map(({ name }) => name)).toEqual([".ergos-mine"]);
    await expect(kernel.os.fs.unlink("/mnt/deep")).rejects.toMatchObject({ code: "ENOTEMPTY" });
    await kernel.os.fs.unlink("/mnt/deep/.ergos-mine");
    await kernel.os.fs.unlink("/mnt/deep");
    expect(existsSync(join(dir, "in/deep"))).toBe(false);
  });
});

test("what goes wrong in a folder says what it is, and of which path", async () => {
  await mount({ writable: true });
  const { fs } = kernel.os;
  await expect(fs.rename("/mnt/none", "/mnt/new")).rejects.toMatchObject({ code: "ENOENT", path: "/mnt/none" });
  await expect(fs.unlink("/mnt/file/below")).rejects.toMatchObject({ code: "ENOTDIR" });
  writeFileSync(join(dir, "in/deep/inner"), "x");
  await expect(fs.unlink("/mnt/deep")).rejects.toThrow(/ENOTEMPTY.*is not empty/);
});

import { spawn, spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
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
});

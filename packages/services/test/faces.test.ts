// Real programs on the files of a process: a git, and a shell.

import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execFileSync } from "node:child_process";
import { openFolder } from "@ergos/drivers/folder";
import type { Kernel } from "@ergos/kernel";
import { editFile } from "@ergos/services";
import { openShell, toNodeFs } from "@ergos/services/faces";
import { BASH_TOOL } from "@ergos/services/faces/bash-tool";
import * as git from "isomorphic-git";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { bootKernel, processWith } from "../../kernel/test/kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

describe("a git", () => {
  const author = { name: "A", email: "a@example.com" };

  test("keeps a repository in the namespace, which the machine's own git reads", async () => {
    const fs = toNodeFs(kernel.os.fs);
    const dir = "/srv/repository";
    await fs.mkdir(`${dir}/src/deep`, { recursive: true });
    await git.init({ fs, dir, defaultBranch: "main" });
    for (let at = 0; at < 40; at++) await fs.writeFile(`${dir}/src/deep/${at}.txt`, `file ${at}\n`.repeat(at + 1));
    await fs.writeFile(`${dir}/run.sh`, "#!/bin/sh\n", { mode: 0o755 });
    await fs.symlink("run.sh", `${dir}/link`);
    await git.add({ fs, dir, filepath: "." });
    const first = await git.commit({ fs, dir, message: "first", author });
    await git.branch({ fs, dir, ref: "side", checkout: true });
    await fs.writeFile(`${dir}/src/deep/1.txt`, "side\n");
    await fs.rm(`${dir}/src/deep/2.txt`);
    await git.add({ fs, dir, filepath: "src/deep/1.txt" });
    await git.remove({ fs, dir, filepath: "src/deep/2.txt" });
    await git.commit({ fs, dir, message: "side", author });
    await git.checkout({ fs, dir, ref: "main" });
    expect(await fs.readFile(`${dir}/src/deep/1.txt`, "utf8")).toBe("file 1\nfile 1\n");
    await git.merge({ fs, dir, ours: "main", theirs: "side", author });
    await git.checkout({ fs, dir, ref: "main" });
    expect(await fs.readFile(`${dir}/src/deep/1.txt`, "utf8")).toBe("side\n");
    expect((await git.log({ fs, dir })).map(({ commit }) => commit.message.trim())).toEqual(["side", "first"]);
    expect(
      await git.readBlob({ fs, dir, oid: first, filepath: "link" }).then(({ blob }) => Buffer.from(blob).toString()),
    ).toBe("run.sh");
    const changed = (await git.statusMatrix({ fs, dir })).filter(
      ([, head, work, stage]) => head !== work || work !== stage,
    );
    expect(changed).toEqual([]);

    // Copied out, it is a repository for everybody.
    const out = mkdtempSync(join(tmpdir(), "ergos-git-"));
    try {
      await kernel.mount("/out", await openFolder({ path: out, writable: true }));
      await fs.cp(`${dir}/.git`, "/out/.git", { recursive: true });
      const real = (...args: readonly string[]): string =>
        execFileSync("git", args, {
          cwd: out,
          encoding: "utf8",
          env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" },
        });
      expect(real("fsck", "--strict")).toBe("");
      expect(real("log", "--format=%s").trim().split("\n")).toEqual(["side", "first"]);
      real("checkout", "--", ".");
      expect(real("ls-files", "-s", "run.sh", "link").match(/^1\d+/gm)).toEqual(["120000", "100755"]);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
    expect(await kernel.os.call("checkStore", { contents: true })).toMatchObject({ problems: [] });
  }, 30_000);
});

test("links and attributes of a mounted folder are what programs take them for", async () => {
  const out = mkdtempSync(join(tmpdir(), "ergos-links-"));
  try {
    for (const name of ["near", "out"]) symlinkSync(name === "near" ? "file" : "/etc/passwd", join(out, name));
    writeFileSync(join(out, "file"), "inside");
    await kernel.mount("/mnt", await openFolder({ path: out, writable: true }));
    const fs = toNodeFs(kernel.os.fs);
    expect((await fs.lstat("/mnt/near")).isSymbolicLink()).toBe(true);
    expect(await fs.readlink("/mnt/near")).toBe("file");
    await fs.rename("/mnt/near", "/mnt/far");
    await fs.rm("/mnt/out");
    await using handle = await fs.open("/mnt/file", "r+");
    await handle.chmod(0o600);
    await handle.utimes(1, 1);
    expect(await fs.readdir("/mnt")).toEqual(["far", "file"]);
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});

describe("a shell", () => {
  test("remembers its directory and variables, and works on files with the usual commands", async () => {
    const shell = await openShell(kernel.os.fs);
    const run = async (line: string): Promise<unknown> => {
      const { stdout, stderr, exitCode } = await shell.exec(line);
      return stderr === "" && exitCode === 0 ? stdout : [stdout, stderr, exitCode];
    };
    expect(
      await run("mkdir -p /home/a && cd /home/a && printf '3\\n1\\n2\\n' > numbers && sort numbers | head -2"),
    ).toBe("1\n2\n");
    expect(shell.cwd).toBe("/home/a");
    await run("X='a b'; export Y=1");
    expect(await run('echo "$X$Y"; pwd')).toBe("a b1\n/home/a\n");
    expect(await run("cp numbers copy; mv copy moved; ln -s numbers link; ls; cat link | wc -l; readlink link")).toBe(
      "link\nmoved\nnumbers\n3\nnumbers\n",
    );
    expect(await run("for f in *; do test -L $f && echo $f; done; find / -name moved; rm -r /home/a; ls /home")).toBe(
      "link\n/home/a/moved\nowner\n",
    );
    expect(await run("head -1 /proc/1/status")).toMatch(/^pid:\s+1\n$/u);
    expect(await run("cat /nowhere")).toEqual(["", expect.stringContaining("No such file") as unknown, 1]);
    expect(await run("node -v; curl http://localhost; ls /usr/bin/env")).toMatchObject([
      "",
      expect.stringMatching(/node: command not found[\s\S]*curl: command not found/u),
      2,
    ]);
    await expect(shell.exec("while true; do :; done")).resolves.toMatchObject({
      exitCode: expect.any(Number) as unknown,
    });
  });

  test("lets go of what is written to /dev/null, and many who add to a file lose nothing", async () => {
    const shell = await openShell(kernel.os.fs, { cwd: "/srv" });
    expect(
      await shell.exec("echo before; echo x > /dev/null; ls nope 2>/dev/null; cat /dev/null; echo after"),
    ).toMatchObject({
      stdout: "before\nafter\n",
      stderr: "",
    });
    const shells = await Promise.all([1, 2, 3].map(() => openShell(kernel.os.fs, { cwd: "/srv" })));
    await Promise.all(shells.map((one, at) => one.exec(`echo ${at} >> log`)));
    expect((await kernel.os.fs.readText("/srv/log")).trim().split("\n").toSorted()).toEqual(["0", "1", "2"]);
    for (const act of [
      async () => kernel.os.fs.append("/dev/null", "x"),
      async () => kernel.os.fs.truncate("/dev/null", 0),
      async () => kernel.os.fs.write("/dev/null", "x", { offset: 5 }),
    ])
      expect(await act()).toMatchObject({ size: 0 });
    await expect((async () => kernel.os.fs.writeFile("/dev/zero", "x"))()).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  test("may do what its process may, and no more", async () => {
    await kernel.os.fs.writeFile("/srv/secret", "s");
    await kernel.os.fs.writeFile("/srv/open/a", "a");
    const os = await processWith(kernel, ["fs.*:/srv/open/**", "fs.stat:/", "fs.stat:/srv"]);
    const shell = await openShell(os.fs, { cwd: "/srv/open" });
    expect(await shell.exec("cat a; echo b > b; cat ../secret; cat /etc/passwd")).toMatchObject({
      stdout: "a",
      exitCode: 1,
    });
    expect(await shell.exec("echo x > ../y")).toMatchObject({
      stderr: expect.stringContaining("permission denied") as unknown,
      exitCode: 1,
    });
    expect(await kernel.os.fs.readText("/srv/open/b")).toBe("b\n");
    expect(await kernel.os.fs.exists("/srv/y")).toBe(false);
  });

  test("is a tool for agents, which stops with them", async () => {
    const controller = new AbortController();
    const context = { os: kernel.os, signal: controller.signal, idempotencyKey: "k" };
    expect(await BASH_TOOL.call({ script: "cat; pwd", stdin: "in\n", cwd: "/sys" }, context)).toEqual({
      exitCode: 0,
      stdout: "in\n/sys\n",
      stderr: "",
    });
    const long = (await BASH_TOOL.call({ script: "seq 1 100000" }, context)) as { readonly stdout: string };
    expect(long.stdout).toMatch(/characters more/u);
    const endless = BASH_TOOL.call({ script: "sleep 60" }, context);
    controller.abort(new TypeError("enough"));
    await Promise.allSettled([endless]);
  }, 20_000);
});

test("a folder of the machine is worked on in the same way", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ergos-face-"));
  try {
    writeFileSync(join(folder, "a"), "1");
    await kernel.mount("/m", await openFolder({ path: folder, writable: true }));
    const fs = toNodeFs(kernel.os.fs);
    await fs.appendFile("/m/a", "2");
    await fs.mkdir("/m/d");
    await fs.rename("/m/a", "/m/d/b");
    await using handle = await fs.open("/m/d/b", "r+");
    await handle.write("9", 1);
    expect(await fs.readFile("/m/d/b", "utf8")).toBe("19");
    await expect(fs.rename("/m/d/b", "/elsewhere")).rejects.toMatchObject({ code: "EXDEV" });
    const shell = await openShell(kernel.os.fs, { cwd: "/m/d" });
    expect(await shell.exec("mv b /elsewhere; ls | wc -l; cat /elsewhere")).toEqual({
      stdout: "0\n19",
      stderr: "",
      exitCode: 0,
    });
    await fs.writeFile("/m/text", "one two three");
    await Promise.all([
      editFile(kernel.os.fs, "/m/text", [{ find: "one", replace: "1" }]),
      editFile(kernel.os.fs, "/m/text", [{ find: "three", replace: "3" }]),
    ]);
    expect(await fs.readFile("/m/text", "utf8")).toBe("1 two 3");
    await fs.unlink("/m/text");
    await fs.rm("/m/d", { recursive: true });
    expect(await fs.readdir("/m")).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

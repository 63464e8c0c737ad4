// Trees of files as wholes: copies that share content, differences, and bringing changes in. Views of processes.

import { openFolder } from "@ergos/drivers/folder";
import { MemoryObjectStore } from "@ergos/drivers/memory";
import { type Kernel, type KernelError, type Os, type Pid, type Program, type TreeChange } from "@ergos/kernel";
import * as fc from "fast-check";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram } from "./kernel-fixture.ts";

let kernel: Kernel;
let objects: MemoryObjectStore;
beforeEach(async () => {
  objects = new MemoryObjectStore();
  kernel = await bootKernel({ objects });
});
afterEach(async () => {
  expect((await kernel.os.call("checkStore", { contents: true })).problems).toEqual([]);
  await kernel.close();
});

const big = (letter: string): string => letter.repeat(50_000);
const blobs = async (): Promise<number> => {
  let count = 0;
  for await (const id of objects.list()) if (id.length > 0) count++;
  return count;
};
/** A tree as text: path, and content, target or `/`. */
async function picture(path: string, os: Os = kernel.os): Promise<Readonly<Record<string, string>>> {
  const out: Record<string, string> = {};
  const visit = async (at: string): Promise<void> => {
    for (const { name, type } of await os.fs.readdir(at)) {
      const below = `${at}/${name}`;
      const key = below.slice(path.length + 1);
      if (type === "directory") {
        out[key] = "/";
        await visit(below);
      } else if (type === "link") out[key] = `-> ${(await os.fs.stat(below, { noFollow: true })).linkText ?? ""}`;
      else out[key] = (await os.fs.readText(below)).slice(0, 20);
    }
  };
  await visit(path);
  return out;
}
async function plant(top: string, os: Os = kernel.os): Promise<void> {
  await os.fs.writeFile(`${top}/a`, "small a");
  await os.fs.writeFile(`${top}/big`, big("b"));
  await os.fs.writeFile(`${top}/d/e/deep`, big("d"));
  await os.fs.mkdir(`${top}/empty`);
  await os.fs.link(`${top}/link`, "d/e");
  await os.fs.setattr(`${top}/a`, { mode: 0o755 });
}
const short = (changes: readonly TreeChange[]): readonly string[] => changes.map(({ kind, path }) => `${kind} ${path}`);

describe("a copy of a tree", () => {
  test("is the tree, shares its content, and goes its own way", async () => {
    const { fs } = kernel.os;
    await plant("/srv/t");
    // Names may begin with any character, the last one of a range too.
    await fs.writeFile("/srv/t/\u{D7FF}a", "last");
    const before = await blobs();
    await fs.clone("/srv/t", "/srv/copy");
    expect(await blobs()).toBe(before);
    expect(await picture("/srv/copy")).toEqual(await picture("/srv/t"));
    expect(await fs.stat("/srv/copy/a")).toMatchObject({ mode: 0o755, size: 7 });
    expect(await fs.compare("/srv/t", "/srv/copy")).toEqual([]);
    await fs.append("/srv/copy/big", "tail");
    await fs.writeFile("/srv/t/a", "other");
    expect(await fs.readText("/srv/t/big")).toBe(big("b"));
    expect(await fs.readText("/srv/copy/a")).toBe("small a");
    expect(short(await fs.compare("/srv/t", "/srv/copy"))).toEqual(["changed a", "changed big"]);
    await fs.unlink("/srv/t", { recursive: true });
    await kernel.host.caretaker.collect({ graceMs: 0 });
    expect(await fs.readText("/srv/copy/d/e/deep")).toBe(big("d"));
    await fs.clone("/srv/copy/a", "/srv/file");
    expect(await fs.readText("/srv/file")).toBe("small a");
  });

  test("is not made where something is, of what is not there, into itself, or of a mounted tree", async () => {
    const { fs } = kernel.os;
    await plant("/srv/t");
    await expect(fs.clone("/srv/t", "/srv/t")).rejects.toMatchObject({ code: "EEXIST" });
    await expect(fs.clone("/srv/none", "/srv/x")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fs.clone("/srv/t", "/srv/none/x")).rejects.toMatchObject({ code: "ENOENT" });
    await expect(fs.clone("/srv/t", "/srv/t/d/x")).rejects.toMatchObject({ code: "EINVAL" });
    await expect(fs.clone("/sys", "/srv/x")).rejects.toMatchObject({ code: "ENOTSUP" });
    await expect(fs.clone("/srv/t", "/sys/x")).rejects.toMatchObject({
      code: expect.stringMatching(/EROFS|ENOENT/u) as unknown,
    });
  });

  test("is the tree at one moment, while others write, rename and remove in it", async () => {
    const { fs } = kernel.os;
    for (let at = 0; at < 20; at++) await fs.writeFile(`/srv/t/${at}`, "0");
    let isOver = false;
    // Both files of a pair are changed by one rename: no moment has two of a name, or none.
    const moving = (async () => {
      for (let round = 0; !isOver; round++) {
        await fs.rename(`/srv/t/${round % 20}`, `/srv/t/m${round % 20}`);
        await fs.rename(`/srv/t/m${round % 20}`, `/srv/t/${round % 20}`);
        await new Promise((go) => setImmediate(go));
      }
    })();
    let made = 0;
    for (let at = 0; at < 30; at++) {
      try {
        await fs.clone("/srv/t", `/srv/c${at}`);
      } catch (error) {
        expect(error).toMatchObject({ code: "EAGAIN" });
        continue;
      }
      made++;
      expect(Object.keys(await picture(`/srv/c${at}`))).toHaveLength(20);
    }
    isOver = true;
    await moving;
    expect(made).toBeGreaterThan(0);
  });

  test("a tree is made like another in one commit, whatever is different", async () => {
    const { fs } = kernel.os;
    await plant("/srv/t");
    await fs.clone("/srv/t", "/srv/before");
    await fs.writeFile("/srv/t/a", "changed");
    await fs.writeFile("/srv/t/new/file", "n");
    await fs.unlink("/srv/t/d", { recursive: true });
    await fs.writeFile("/srv/t/d", "a file now");
    await fs.unlink("/srv/t/link");
    await fs.link("/srv/t/link", "elsewhere");
    await using handle = await fs.open("/srv/t/a", ["read"]);
    await using gone = await fs.open("/srv/t/new/file", ["read"]);
    const seq = kernel.host.store.seq;
    const done = await fs.restore("/srv/before", "/srv/t");
    expect(kernel.host.store.seq - seq).toBeLessThanOrEqual(2);
    expect(short(done)).toEqual([
      "changed a",
      "removed d",
      "added d",
      "added d/e",
      "added d/e/deep",
      "changed link",
      "removed new",
      "removed new/file",
    ]);
    expect(await picture("/srv/t")).toEqual(await picture("/srv/before"));
    expect(await fs.compare("/srv/before", "/srv/t")).toEqual([]);
    // Handles are of the file: what it is now, or what it was when it went.
    expect(new TextDecoder().decode(await handle.read())).toBe("small a");
    expect(new TextDecoder().decode(await gone.read())).toBe("n");
    expect(await fs.restore("/srv/before", "/srv/t")).toEqual([]);
    await expect(fs.restore("/srv/t", "/srv/t")).rejects.toMatchObject({ code: "EINVAL" });
  });

  test("random changes are found and undone", async () => {
    const names = ["a", "b", "d/a", "d/b", "d/e/a", "x"];
    const step = fc.record({
      what: fc.integer({ min: 0, max: 5 }),
      at: fc.constantFrom(...names),
      to: fc.constantFrom(...names),
    });
    let number = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), fc.array(step, { maxLength: 12 }), async (first, then) => {
        const { fs } = kernel.os;
        const top = `/p${number++}`;
        await fs.mkdir(`${top}/t`);
        const run = async (steps: typeof first): Promise<void> => {
          for (const { what, at, to } of steps) {
            const path = `${top}/t/${at}`;
            const done =
              what === 0
                ? fs.mkdir(path)
                : what === 1
                  ? fs.unlink(path, { recursive: true })
                  : what === 2
                    ? fs.rename(path, `${top}/t/${to}`)
                    : what === 3
                      ? fs.link(path, to)
                      : fs.writeFile(path, what === 4 ? at : big(to));
            await done.catch(() => undefined);
          }
        };
        await run(first);
        await fs.clone(`${top}/t`, `${top}/before`);
        await run(then);
        const [old, now] = [await picture(`${top}/before`), await picture(`${top}/t`)];
        const changes = await fs.compare(`${top}/before`, `${top}/t`);
        const different = [...new Set([...Object.keys(old), ...Object.keys(now)])].filter(
          (path) => old[path] !== now[path],
        );
        expect(new Set(changes.map(({ path }) => path))).toEqual(new Set(different));
        await fs.restore(`${top}/before`, `${top}/t`);
        expect(await picture(`${top}/t`)).toEqual(old);
      }),
      { numRuns: 60 },
    );
  });

  test("thousands of files are copied, compared and restored whole", async () => {
    const { fs } = kernel.os;
    for (let at = 0; at < 3000; at++) await fs.writeFile(`/srv/many/${at % 50}/${at}`, `file ${at}`);
    await fs.clone("/srv/many", "/srv/kept");
    for (let at = 0; at < 3000; at += 2) await fs.writeFile(`/srv/many/${at % 50}/${at}`, "new");
    expect(await fs.compare("/srv/kept", "/srv/many")).toHaveLength(1500);
    expect(await fs.restore("/srv/kept", "/srv/many")).toHaveLength(1500);
    expect(await fs.compare("/srv/kept", "/srv/many")).toEqual([]);
  }, 60_000);
});

describe("a view", () => {
  const GRANTS = ["self", "fs.*:/srv/t/**", "fs.stat:/srv", "fs.stat:/", "proc.*"];
  const started = async (of: Kernel = kernel, grants = GRANTS): Promise<Os> => {
    const { program, context } = openProgram();
    await of.os.spawn(program, { grants, view: "/srv/t" });
    return (await context).os;
  };
  const end = async (os: Os, of = kernel): Promise<void> => {
    await of.os.kill(os.pid, "TERM");
    await of.os.wait(os.pid);
  };
  const refused = (code: string): object => ({ code });

  test("is the tree for its process and its children, and changes nothing for others until it is applied", async () => {
    await plant("/srv/t");
    const os = await started();
    await os.fs.writeFile("/srv/t/a", "mine");
    await os.fs.writeFile("/srv/t/new", "n");
    await os.fs.unlink("/srv/t/big");
    await os.fs.rename("/srv/t/d", "/srv/t/moved");
    expect(await os.fs.readText("/srv/t/a")).toBe("mine");
    expect(await os.fs.stat("/srv/t/a")).toMatchObject({ path: "/srv/t/a" });
    expect((await os.fs.readdir("/srv/t")).map(({ name }) => name)).toEqual(["a", "empty", "link", "moved", "new"]);
    const { program, context } = openProgram("below");
    await os.spawn(program);
    const child = (await context).os;
    expect(await child.fs.readText("/srv/t/new")).toBe("n");
    await child.fs.append("/srv/t/new", "2");
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
    expect(await kernel.os.fs.exists("/srv/t/new")).toBe(false);
    await expect(os.fs.writeFile("/srv/x", "")).rejects.toMatchObject(refused("EACCES"));
    await expect(os.fs.readText("/var/views/1/base/a")).rejects.toMatchObject(refused("EACCES"));
    await expect(kernel.os.call("applyView", { pid: os.pid })).rejects.toMatchObject(refused("EBUSY"));
    await end(os);
    expect(short(await kernel.os.call("viewChanges", { pid: os.pid }))).toEqual([
      "changed a",
      "removed big",
      "removed d",
      "removed d/e",
      "removed d/e/deep",
      "added moved",
      "added moved/e",
      "added moved/e/deep",
      "added new",
    ]);
    // What has happened elsewhere in the tree stays.
    await kernel.os.fs.writeFile("/srv/t/others", "o");
    expect(await kernel.os.call("applyView", { pid: os.pid })).toMatchObject({ conflicts: [] });
    expect(await picture("/srv/t")).toEqual({
      a: "mine",
      empty: "/",
      link: "-> d/e",
      moved: "/",
      "moved/e": "/",
      "moved/e/deep": "d".repeat(20),
      new: "n2",
      others: "o",
    });
    expect(await kernel.os.call("views", {})).toEqual([]);
    expect(await kernel.os.fs.readdir("/var/views")).toEqual([]);
    await expect(kernel.os.call("viewChanges", { pid: os.pid })).rejects.toMatchObject(refused("ENOENT"));
  });

  test("what stands against it is told, and then nothing of it is brought in", async () => {
    await plant("/srv/t");
    await kernel.os.fs.writeFile("/srv/t/gone/file", "1");
    await kernel.os.fs.writeFile("/srv/t/same", "1");
    const os = await started();
    await os.fs.writeFile("/srv/t/a", "mine");
    await os.fs.writeFile("/srv/t/new", "mine");
    await os.fs.writeFile("/srv/t/gone/new", "mine");
    await os.fs.unlink("/srv/t/empty", { recursive: true });
    await os.fs.unlink("/srv/t/big");
    await os.fs.writeFile("/srv/t/same", "equal");
    await os.fs.writeFile("/srv/t/fine", "mine");
    await end(os);
    const { fs } = kernel.os;
    await fs.writeFile("/srv/t/a", "theirs");
    await fs.writeFile("/srv/t/new", "theirs");
    await fs.unlink("/srv/t/gone", { recursive: true });
    await fs.writeFile("/srv/t/empty/appeared", "");
    await fs.writeFile("/srv/t/big", "theirs");
    await fs.writeFile("/srv/t/same", "equal");
    const before = await picture("/srv/t");
    const { changes, conflicts } = await kernel.os.call("applyView", { pid: os.pid });
    expect(changes).toEqual([]);
    expect(conflicts.map(({ kind, path, theirs }) => [kind, path, theirs])).toEqual([
      ["changed", "a", "changed"],
      ["removed", "big", "changed"],
      ["removed", "empty", undefined],
      ["added", "gone/new", undefined],
      ["added", "new", "added"],
    ]);
    expect(await picture("/srv/t")).toEqual(before);
    await kernel.os.call("discardView", { pid: os.pid });
    expect(await picture("/srv/t")).toEqual(before);
    expect(await kernel.os.fs.readdir("/var/views")).toEqual([]);
  });

  test("is applied only where the caller may write", async () => {
    await plant("/srv/t");
    const os = await started();
    await os.fs.writeFile("/srv/t/a", "mine");
    await end(os);
    const { program, context } = openProgram("reviewer");
    await kernel.os.spawn(program, { grants: ["view.*", "fs.*:/srv/t/**", "deny fs.write:/srv/t/a"] });
    const reviewer = (await context).os;
    await expect(reviewer.call("applyView", { pid: os.pid })).rejects.toMatchObject(refused("EACCES"));
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
    await kernel.os.call("applyView", { pid: os.pid });
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("mine");
    const { program: poor, context: poorContext } = openProgram("poor");
    await kernel.os.spawn(poor, { grants: ["proc.*"] });
    await expect((await poorContext).os.spawn(poor, { view: "/srv/t" })).rejects.toMatchObject(refused("EACCES"));
    await expect(kernel.os.spawn(poor, { view: "/srv/t/a" })).rejects.toMatchObject(refused("ENOTDIR"));
    await expect(kernel.os.spawn(poor, { view: "/srv/none" })).rejects.toMatchObject(refused("ENOENT"));
    await expect(kernel.os.spawn(poor, { view: "/" })).rejects.toMatchObject(refused("EINVAL"));
    expect(await kernel.os.fs.readdir("/var/views")).toEqual([]);
  });

  test("links, watches, locks and paths of two names lead where the process sees them", async () => {
    await plant("/srv/t");
    await kernel.os.fs.link("/way", "/srv/t");
    await kernel.os.fs.readText("/way/a");
    const os = await started(kernel, [...GRANTS, "fs.stat:/way", "fs.watch:/srv/t/**", "lock.*"]);
    const seen: unknown[] = [];
    const watching = (async () => {
      for await (const { name, data } of os.fs.watch("/srv/t/**")) {
        seen.push([name, data["path"], data["oldPath"]]);
        if (seen.length === 2) return;
      }
    })();
    await new Promise((go) => setImmediate(go));
    await os.fs.write("/way/a", "through the link");
    await os.fs.rename("/srv/t/a", "/srv/t/b");
    await watching;
    expect(seen).toEqual([
      ["file.written", "/srv/t/a", undefined],
      ["file.renamed", "/srv/t/b", "/srv/t/a"],
    ]);
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
    expect(await os.call("lock", { path: "/srv/t/b", ttlMs: 1000 })).toMatchObject({ path: "/srv/t/b" });
    expect(await os.fs.readText("/srv/t/link/deep")).toBe(big("d"));
    const handle = await os.fs.open("/srv/t/b", ["read", "write"]);
    await handle.write("!", { append: true });
    await handle.close();
    await end(os);
    expect(short(await kernel.os.call("viewChanges", { pid: os.pid }))).toEqual(["removed a", "added b"]);
  });

  test("is there after a restart of the host, and goes when its process is forgotten", async () => {
    const store = new LastingStore();
    const { program, context } = openProgram();
    let host = await bootKernel({ store: store.life(), objects, programs: [program] });
    await plant("/srv/t", host.os);
    const pid: Pid = await host.os.spawn("open", { view: "/srv/t" });
    const { os } = await context;
    await os.fs.writeFile("/srv/t/a", "mine");
    // As a host leaves it that dies between the copies and the spawn.
    await host.os.fs.clone("/srv/t", "/var/views/99");
    await host.close();
    host = await bootKernel({ store: store.life(), objects, programs: [program] });
    expect((await host.os.fs.readdir("/var/views")).map(({ name }) => name)).toEqual(["1"]);
    expect(await host.osOf(pid).fs.readText("/srv/t/a")).toBe("mine");
    await host.os.kill(pid, "KILL");
    expect(await host.os.call("views", {})).toMatchObject([{ pid, at: "/srv/t", of: "/srv/t" }]);
    await host.os.call("prune", { endedBefore: Date.now() + 86_400_000 });
    expect(await host.os.fs.readdir("/var/views")).toEqual([]);
    expect((await host.os.call("checkStore", {})).problems).toEqual([]);
    await host.close();
  });

  test("many processes work on one tree, and those that touch different files are all brought in", async () => {
    for (let at = 0; at < 10; at++) await kernel.os.fs.writeFile(`/srv/t/${at}`, "0");
    const worker: Program = {
      name: "worker",
      revision: "1",
      kind: "function",
      run: async ({ os, pid }) => {
        for (let at = 0; at < 10; at++) if (at % 5 === pid % 5) await os.fs.writeFile(`/srv/t/${at}`, String(pid));
      },
    };
    const pids = await Promise.all(Array.from({ length: 10 }, () => kernel.os.spawn(worker, { view: "/srv/t" })));
    await Promise.all(pids.map((pid) => kernel.os.wait(pid)));
    const merged = await Promise.all(pids.map((pid) => kernel.os.call("applyView", { pid })));
    const applied = pids.filter((_pid, at) => merged[at]?.conflicts.length === 0);
    expect(applied).toHaveLength(5);
    for (let at = 0; at < 10; at++) {
      const owner = Number(await kernel.os.fs.readText(`/srv/t/${at}`));
      expect(applied).toContain(owner);
      expect(owner % 5).toBe(at % 5);
    }
  });
});

describe("what a view keeps in", () => {
  const start = async (of: Os, options: object): Promise<Os> => {
    const { program, context } = openProgram();
    await of.spawn(program, options);
    return (await context).os;
  };
  const end = async (os: Os): Promise<void> => {
    await kernel.os.kill(os.pid, "TERM");
    await kernel.os.wait(os.pid);
  };

  test("a child with a view of its own is in its parent's too, and so is a seat", async () => {
    await plant("/srv/t");
    const parent = await start(kernel.os, { view: "/srv/t" });
    const child = await start(parent, { view: "/srv/t/d" });
    await child.fs.writeFile("/srv/t/a", "child");
    await child.fs.writeFile("/srv/t/d/own", "own");
    expect(await parent.fs.readText("/srv/t/a")).toBe("child");
    expect(await parent.fs.exists("/srv/t/d/own")).toBe(false);
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
    await end(child);
    await parent.call("applyView", { pid: child.pid });
    expect(await parent.fs.readText("/srv/t/d/own")).toBe("own");
    expect(await kernel.os.fs.exists("/srv/t/d/own")).toBe(false);
    await end(parent);
    await kernel.os.call("applyView", { pid: parent.pid });
    expect(await kernel.os.fs.readText("/srv/t/d/own")).toBe("own");
  });

  test("what is written through a handle is not told to those outside, and is to who sees it", async () => {
    await plant("/srv/t");
    const os = await start(kernel.os, { view: "/srv/t" });
    const follow = (of: Os): { readonly heard: unknown[]; readonly end: () => unknown } => {
      const events = of.fs.watch("/srv/**");
      const heard: unknown[] = [];
      void (async () => {
        for await (const { name, data } of events) heard.push(`${name} ${String(data["path"])}`);
      })();
      return { heard, end: () => events.return() };
    };
    const [outside, inside] = [follow(kernel.os), follow(os)];
    const handle = await os.fs.open("/srv/t/a", ["write"]);
    await handle.write(new TextEncoder().encode("in the view"));
    await os.fs.rename("/srv/t/a", "/srv/t/d/moved");
    await handle.truncate(2);
    await kernel.os.fs.writeFile("/srv/end", "");
    await expect.poll(() => outside.heard.length).toBeGreaterThan(0);

    expect(outside.heard.filter((one) => !String(one).endsWith("/srv/end"))).toEqual([]);
    expect(inside.heard.slice(0, 3)).toEqual([
      "file.written /srv/t/a",
      expect.stringMatching(/^file\.renamed \/srv\/t\/d\/moved/),
      "file.written /srv/t/d/moved",
    ]);
    for (const { end: over } of [outside, inside]) over();
    await handle.close();
  });

  test("nothing moves over its edge, and its top stays", async () => {
    await plant("/srv/t");
    await kernel.os.fs.writeFile("/srv/o/in", "outside");
    const os = await start(kernel.os, { view: "/srv/t" });

    await expect(os.fs.rename("/srv/o/in", "/srv/t/in")).rejects.toMatchObject({ code: "EXDEV", path: "/srv/t/in" });
    await expect(os.fs.rename("/srv/t/a", "/srv/o/a")).rejects.toMatchObject({ code: "EXDEV", path: "/srv/o/a" });
    await expect(os.fs.rename("/srv/t", "/srv/u")).rejects.toMatchObject({ code: "EBUSY", path: "/srv/t" });
    await expect(os.fs.unlink("/srv/t", { recursive: true })).rejects.toMatchObject({ code: "EBUSY" });
    await os.fs.rename("/srv/t/a", "/srv/t/moved");
    // What the view is in would take it along.
    await expect(os.fs.rename("/srv", "/other")).rejects.toMatchObject({ code: "EBUSY" });
    await expect(os.fs.unlink("/srv", { recursive: true })).rejects.toMatchObject({ code: "EBUSY" });
    await expect(os.fs.clone("/srv", "/copy")).rejects.toMatchObject({ code: "EBUSY" });
    await os.fs.clone("/srv/t", "/srv/t/../copy");

    await end(os);
    await kernel.os.call("discardView", { pid: os.pid });
    expect(await kernel.os.fs.readText("/srv/o/in")).toBe("outside");
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
  });

  test("a tree that something is mounted in, or that something passes through, has no view and no copy", async () => {
    await plant("/srv/t");
    const os = await start(kernel.os, { view: "/srv/t" });
    await os.fs.writeFile("/srv/t/a", "edited");
    await kernel.os.fs.mkdir("/srv/t/docs");
    await kernel.mount("/srv/t/docs", await openFolder({ path: import.meta.dirname }));
    const mounted = { code: "ENOTSUP", path: "/srv/t/docs" };

    await expect(kernel.os.spawn(openProgram().program, { view: "/srv/t" })).rejects.toMatchObject(mounted);
    await expect(kernel.os.fs.clone("/srv/t", "/srv/copy")).rejects.toMatchObject(mounted);
    await expect(kernel.os.fs.compare("/srv/t", "/srv/o")).rejects.toBeDefined();
    await end(os);
    await expect(kernel.os.call("applyView", { pid: os.pid })).rejects.toMatchObject(mounted);
    await kernel.unmount("/srv/t/docs");
    await kernel.os.call("applyView", { pid: os.pid });
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("edited");

    await kernel.os.fs.makePipe("/srv/t/pipe");
    await expect(kernel.os.fs.clone("/srv/t", "/srv/copy")).rejects.toMatchObject({
      code: "ENOTSUP",
      path: "/srv/t/pipe",
    });
  });

  test("a view of a part of it is ended before it", async () => {
    await plant("/srv/t");
    const parent = await start(kernel.os, { view: "/srv/t" });
    const child = await start(parent, { view: "/srv/t/d" });
    await child.fs.writeFile("/srv/t/d/own", "own");
    for (const os of [child, parent]) await end(os);
    for (const call of ["applyView", "discardView"] as const)
      await expect((async () => kernel.os.call(call, { pid: parent.pid }))()).rejects.toThrow(
        new RegExp(`EBUSY.*process ${child.pid} has a view of a part of it`),
      );
    await kernel.os.call("applyView", { pid: child.pid });
    await kernel.os.call("applyView", { pid: parent.pid });
    expect(await kernel.os.fs.readText("/srv/t/d/own")).toBe("own");
  });

  test("errors are about the paths that the process knows", async () => {
    await plant("/srv/t");
    const os = await start(kernel.os, { view: "/srv/t" });
    const failures = [
      os.fs.read("/srv/t/none"),
      os.fs.mkdir("/srv/t/a"),
      os.fs.readdir("/srv/t/a"),
      os.fs.read("/none"),
    ];
    const told = await Promise.all(
      failures.map(async (work) => (work as Promise<unknown>).catch((error: unknown) => error as KernelError)),
    );
    expect(told.map((error) => (error as KernelError).path)).toEqual(["/srv/t/none", "/srv/t/a", "/srv/t/a", "/none"]);
    expect(told.map(String).join()).not.toContain("/var/views");
  });

  test("nothing that is put in the place of the copy is brought in", async () => {
    await plant("/srv/t");
    await plant("/secret");
    const os = await start(kernel.os, { view: "/srv/t", grants: ["fs.*:/srv/t/**", "fs.*:/srv/t"] });
    await kernel.os.fs.unlink("/var/views/1/work", { recursive: true });
    await kernel.os.fs.link("/var/views/1/work", "/secret");
    await end(os);
    await expect((async () => kernel.os.call("applyView", { pid: os.pid }))()).rejects.toMatchObject({
      code: "ESTALE",
    });
    await kernel.os.call("discardView", { pid: os.pid });
    expect(await kernel.os.fs.readText("/srv/t/a")).toBe("small a");
  });

  test("a view is ended once, and not while somebody works on it", async () => {
    await plant("/srv/t");
    const os = await start(kernel.os, { view: "/srv/t" });
    for (let at = 0; at < 300; at++) await os.fs.writeFile(`/srv/t/zz/${at}`, String(at));
    const child = await start(os, {});
    await kernel.os.call("reparent", { pid: child.pid, to: 1 as Pid });
    await end(os);
    await expect((async () => kernel.os.call("applyView", { pid: os.pid }))()).rejects.toMatchObject({ code: "EBUSY" });
    await end(child);
    const both = await Promise.allSettled([
      kernel.os.call("applyView", { pid: os.pid }),
      kernel.os.call("discardView", { pid: os.pid }),
    ]);
    expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(Object.keys(await picture("/srv/t"))).toHaveLength(308);
    const { program } = openProgram();
    await expect(kernel.os.spawn(program, { view: "/srv/t", group: "nope" })).rejects.toBeDefined();
    expect(await kernel.os.fs.readdir("/var/views")).toEqual([]);
  });

  test("attributes are changes, links lead as they are written, and watches hear what the process sees", async () => {
    await plant("/srv/t");
    await kernel.os.fs.writeFile("/srv/other", "other");
    const os = await start(kernel.os, { view: "/srv/t" });
    await os.call("setxattr", { path: "/srv/t/a", values: { "user.x": "1" } });
    await os.fs.link("/srv/t/up", "../other");
    expect(await os.fs.readText("/srv/t/up")).toBe("other");
    expect((await os.fs.stat("/srv/t/up", { noFollow: true })).target).toBe("/srv/other");
    const seen: unknown[] = [];
    const watching = (async () => {
      for await (const { data } of os.fs.watch("/srv/**")) {
        seen.push(data["path"]);
        if (seen.length === 2) return;
      }
    })();
    await new Promise((go) => setImmediate(go));
    await kernel.os.fs.writeFile("/srv/t/theirs", "");
    await os.fs.writeFile("/srv/t/mine", "");
    await kernel.os.fs.writeFile("/srv/other", "changed");
    await watching;
    expect(seen).toEqual(["/srv/t/mine", "/srv/other"]);
    await os.call("setxattr", { path: "/srv/t/d", values: { "user.y": "2" } });
    await end(os);
    const after = kernel.host.store.seq;
    await kernel.os.call("applyView", { pid: os.pid });
    expect(await kernel.os.call("getxattr", { path: "/srv/t/a" })).toEqual({ "user.x": "1" });
    for await (const { name, data } of kernel.os.fs.watch("/srv/t/d", { after })) {
      expect([name, data["path"]]).toEqual(["file.metadata", "/srv/t/d"]);
      break;
    }
  });
});

describe("trees that do not fit", () => {
  test("nothing is put below a file, and tops of two types do not become like each other", async () => {
    const { fs } = kernel.os;
    await plant("/srv/t");
    const { program, context } = openProgram();
    const pid = await kernel.os.spawn(program, { view: "/srv/t" });
    await (await context).os.fs.writeFile("/srv/t/d/new", "n");
    await kernel.os.kill(pid, "TERM");
    await kernel.os.wait(pid);
    await fs.unlink("/srv/t/d", { recursive: true });
    await fs.writeFile("/srv/t/d", "a file");
    expect((await kernel.os.call("applyView", { pid })).conflicts).toMatchObject([{ path: "d/new" }]);
    await fs.writeFile("/srv/one", "1");
    await fs.writeFile("/srv/two", "2");
    await expect(fs.restore("/srv/t", "/srv/one")).rejects.toMatchObject({ code: "EINVAL" });
    expect(short(await fs.compare("/srv/one", "/srv/two"))).toEqual(["changed "]);
    await fs.restore("/srv/one", "/srv/two");
    expect(await fs.readText("/srv/two")).toBe("1");
    await fs.makeStream("/srv/t/s");
    await expect(fs.clone("/srv/t", "/srv/c")).rejects.toMatchObject({ code: "ENOTSUP" });
  });

  test("a tree that is restored while others write to it and to its source is one state or another", async () => {
    const { fs } = kernel.os;
    for (let at = 0; at < 20; at++) {
      await fs.writeFile(`/from/${at}`, "F".repeat(5000));
      await fs.writeFile(`/to/${at}`, "T".repeat(5000));
    }
    let isOver = false;
    const writing = (async () => {
      for (let round = 0; !isOver; round++) {
        const at = round % 20;
        await new Promise((go) => setImmediate(go));
        await Promise.all([fs.writeFile(`/from/${at}`, "f"), fs.append(`/to/${at}`, "a".repeat(100))]);
        await fs.writeFile(`/from/${at}`, "F".repeat(5000));
        for (let read = 0; read < 20; read++)
          expect(await fs.readText(`/to/${read}`)).toMatch(/^(T{5000}|F{5000}|f)a*$/u);
      }
    })();
    for (let at = 0; at < 30; at++) {
      await fs.restore("/from", "/to").catch((error: unknown) => expect(error).toMatchObject({ code: "EAGAIN" }));
      await new Promise((go) => setImmediate(go));
    }
    isOver = true;
    await writing;
  });

  test("what one may not read is not compared", async () => {
    await plant("/srv/t");
    await plant("/srv/t/secret");
    await kernel.os.fs.mkdir("/srv/e");
    const { program, context } = openProgram();
    await kernel.os.spawn(program, { grants: ["fs.*:/srv/**", "deny fs.*:/srv/t/secret/**"] });
    const changes = await (await context).os.fs.compare("/srv/e", "/srv/t");
    expect(changes.some(({ path }) => path.startsWith("secret"))).toBe(false);
  });
});

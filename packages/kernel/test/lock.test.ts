// Advisory locks: who gets them in which order, how they end, and what a write with their number is worth.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFolder } from "@ergos/drivers/folder";
import { createNodePlatform } from "@ergos/drivers/platform-node";
import {
  type Kernel,
  type LockGrant,
  type LockKind,
  LockOrder,
  LockQueue,
  type LockWaiter,
  type Os,
  PathLocks,
  type Pid,
  type Platform,
  excludes,
  isKernelError,
  toPath,
} from "@ergos/kernel";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { LastingStore, bootKernel, openProgram, processWith } from "./kernel-fixture.ts";

let kernel: Kernel;
beforeEach(async () => {
  kernel = await bootKernel();
});
afterEach(() => kernel.close());

const tick = (): Promise<void> => new Promise((go) => setImmediate(go));
const lock = async (os: Os, path: string, more: object = {}): Promise<LockGrant> =>
  os.call("lock", { path, ttlMs: 60_000, ...more });
const unlock = async (os: Os, path: string, more: object = {}): Promise<boolean> =>
  os.call("unlock", { path, ...more });
const process = (): Promise<Os> => processWith(kernel, ["lock.*", "fs.*"]);
const refused = (code: string, message?: RegExp): object => ({
  code,
  ...(message === undefined ? {} : { message: expect.stringMatching(message) as unknown }),
});

describe("a lock", () => {
  test("is exclusive, shared or counting, and served in the order of asking", async () => {
    const [a, b, c, d] = await Promise.all([process(), process(), process(), process()]);
    const first = await lock(a, "x");
    expect(first).toMatchObject({ path: "/sys/locks/x", fence: 1, ttlMs: 60_000 });
    await expect(lock(b, "x", { waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN", /process \d+ holds it/u));
    await expect(lock(b, "x", { waitMs: 5 })).rejects.toMatchObject(refused("EAGAIN", /5 ms were not enough/u));
    const order: string[] = [];
    const shared = [b, c].map((os, at) => lock(os, "x", { mode: "shared" }).then(() => order.push(`shared ${at}`)));
    await tick();
    const exclusive = lock(d, "x", { waitMs: 10_000 }).then(() => order.push("exclusive"));
    await tick();
    const late = lock(c, "x", { mode: "shared", owner: "late" }).then(() => order.push("late"));
    expect(await unlock(a, "x")).toBe(true);
    await Promise.all(shared);
    await tick();
    expect(order).toEqual(["shared 0", "shared 1"]);
    await unlock(b, "x");
    await unlock(c, "x");
    await exclusive;
    await unlock(d, "x");
    await late;
    expect(order).toEqual(["shared 0", "shared 1", "exclusive", "late"]);

    const permits = await Promise.all([a, b].map((os) => lock(os, "pool", { maxHolders: 2 })));
    expect(permits.map(({ fence }) => fence)).toEqual([6, 7]);
    await expect(lock(c, "pool", { maxHolders: 2, waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
    await expect(lock(c, "pool", { maxHolders: 3 })).rejects.toMatchObject(refused("EINVAL", /room for 2/u));
    expect(await unlock(a, "pool")).toBe(true);
    expect(await unlock(a, "pool")).toBe(false);
    expect(await lock(c, "pool", { maxHolders: 2 })).toMatchObject({ fence: 8 });
  });

  test("excludes what is above and below its path, by the canonical one", async () => {
    const [a, b] = await Promise.all([process(), process()]);
    await kernel.os.fs.writeFile("/data/one/file", "1");
    await kernel.os.fs.link("/also", "/data");
    await lock(a, "/data/one");
    for (const path of ["/data/one/file", "/data", "/", "/also/one", "/data//one/"])
      await expect(lock(b, path, { waitMs: 0 }), path).rejects.toMatchObject(refused("EAGAIN"));
    await lock(b, "/data/one2");
    await lock(b, "/data/two/deep");
    expect(await kernel.os.fs.stat("/also/one", { lock: true })).toMatchObject({
      path: "/data/one",
      lock: { waiting: 0, holders: [{ pid: a.pid, mode: "exclusive", path: "/data/one" }] },
    });
    expect((await kernel.os.fs.stat("/data/one")).lock).toBeUndefined();
    await expect(lock(a, "../../etc")).rejects.toMatchObject(refused("EINVAL", /leads out/u));
  });

  test("ends when its time is over, or with its holder, and is extended by its id", async () => {
    const [a, b] = await Promise.all([process(), process()]);
    const ended: unknown[] = [];
    const events = kernel.os.events({ names: ["lock.expired", "lock.released"] });
    const listening = (async () => {
      for await (const { name, data } of events) ended.push([name, data["path"]]);
    })();
    await tick();
    const short = await lock(a, "short", { ttlMs: 30 });
    const kept = await lock(a, "kept", { ttlMs: 30 });
    const again = await lock(a, "kept", { ttlMs: 60_000, lockId: kept.lockId });
    expect(again).toEqual({ ...kept, ttlMs: 60_000 });
    await expect(lock(b, "kept", { lockId: kept.lockId })).rejects.toMatchObject(refused("EPERM"));
    await expect(lock(a, "other", { lockId: kept.lockId })).rejects.toMatchObject(refused("EINVAL"));
    expect(await lock(b, "short")).toMatchObject({ fence: short.fence + 2 });
    await expect(lock(b, "kept", { waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
    expect(await unlock(a, "short")).toBe(false);
    await expect(unlock(b, "kept", { lockId: kept.lockId })).rejects.toMatchObject(refused("EPERM"));
    const waiting = lock(b, "kept");
    await kernel.os.kill(a.pid, "KILL");
    await waiting;
    expect(ended).toEqual([
      ["lock.expired", "/sys/locks/short"],
      ["lock.released", "/sys/locks/kept"],
    ]);
    await kernel.os.kill(b.pid, "KILL");
    expect(await kernel.os.call("locks", {})).toEqual([]);
    await events.return(undefined);
    await listening;
  });

  test("is taken away by force, with the right for it", async () => {
    const [a, b] = await Promise.all([process(), processWith(kernel, ["lock.acquire:/sys/locks/**"])]);
    await lock(a, "x");
    await expect(unlock(b, "x", { force: true })).rejects.toMatchObject(refused("EACCES"));
    await expect(lock(b, "/data")).rejects.toMatchObject(refused("EACCES"));
    await expect(unlock(kernel.os, "x")).rejects.toMatchObject(refused("EPERM", /force/u));
    expect(await unlock(kernel.os, "x", { force: true })).toBe(true);
    await lock(b, "x");
  });

  test("arguments that mean nothing are refused", async () => {
    for (const wrong of [
      { ttlMs: 0 },
      { ttlMs: -1 },
      { ttlMs: 1.5 },
      { ttlMs: 8 * 86_400_000 },
      { maxHolders: 0 },
      { mode: "counting" },
      { maxHolders: 2, mode: "shared" },
      { waitMs: -1 },
      { lockId: "" },
    ])
      await expect(lock(kernel.os, "x", wrong), JSON.stringify(wrong)).rejects.toMatchObject(refused("EINVAL"));
    await expect(lock(kernel.os, "a\0b")).rejects.toMatchObject(refused("EINVAL"));
    await expect(lock(kernel.os, "n".repeat(300))).rejects.toMatchObject(refused("ENAMETOOLONG"));
    expect(await kernel.os.call("locks", {})).toEqual([]);
  });

  test("waiting ends with its caller, with a signal, and leaves the queue to others", async () => {
    const [a, b, c] = await Promise.all([process(), process(), process()]);
    await lock(a, "x");
    const controller = new AbortController();
    const given = lock(b, "x", { signal: controller.signal });
    const dead = lock(b, "x", { owner: "2" });
    const next = lock(c, "x");
    await tick();
    controller.abort(new TypeError("enough"));
    await expect(given).rejects.toThrow("enough");
    const ended = expect(dead).rejects.toBeDefined();
    await kernel.os.kill(b.pid, "KILL");
    await ended;
    await unlock(a, "x");
    expect(await next).toMatchObject({ fence: 2 });
  });

  test("a circle of waiters is told, with the way round", async () => {
    const [a, b, c] = await Promise.all([process(), process(), process()]);
    await Promise.all([lock(a, "1"), lock(b, "2"), lock(c, "3")]);
    const waiting = [lock(a, "2"), lock(b, "3")];
    await tick();
    await expect(lock(c, "1")).rejects.toMatchObject(
      refused("EDEADLK", new RegExp(`process ${c.pid} at .*process ${a.pid} at .*process ${b.pid} at .*${c.pid}`, "u")),
    );
    // Parts of the owner's process are strangers to each other, parts of another have names if they are.
    await lock(kernel.os, "mine");
    await expect(lock(kernel.os, "mine", { waitMs: 5 })).rejects.toMatchObject(refused("EAGAIN"));
    await lock(c, "own", { owner: "one" });
    await expect(lock(c, "own", { owner: "one" })).rejects.toMatchObject(refused("EDEADLK"));
    await expect(lock(c, "own", { owner: "two", waitMs: 5 })).rejects.toMatchObject(refused("EAGAIN"));
    await unlock(c, "3");
    await unlock(b, "2");
    await Promise.all(waiting);
  });

  test("is shown under /sys/locks", async () => {
    await lock(kernel.os, "nightly");
    await lock(kernel.os, "/data/x");
    const entries = await kernel.os.fs.readdir("/sys/locks");
    expect(entries.map(({ name }) => name)).toEqual(["%2Fdata%2Fx", "nightly"]);
    expect(JSON.parse(await kernel.os.fs.readText("/sys/locks/%2Fdata%2Fx"))).toMatchObject({
      path: "/data/x",
      waiting: 0,
    });
    expect(await kernel.os.fs.exists("/sys/locks/nobody")).toBe(false);
  });
});

describe("fencing numbers", () => {
  test("a write that carries one is done only while that lock is held", async () => {
    const [a, b] = await Promise.all([process(), process()]);
    const { fence } = await lock(a, "/f", { ttlMs: 40 });
    await a.fs.writeFile("/f", "a", { fence });
    await a.fs.append("/f", "b", { fence });
    const newer = await lock(b, "/f");
    expect(newer.fence).toBeGreaterThan(fence);
    await expect(a.fs.write("/f", "late", { fence })).rejects.toMatchObject(refused("ESTALE", /is lost/u));
    await expect(a.fs.append("/f", "late", { fence })).rejects.toMatchObject(refused("ESTALE"));
    await expect(a.fs.writeFile("/new", "late", { fence })).rejects.toMatchObject(refused("ESTALE"));
    await b.fs.write("/f", "new", { fence: newer.fence });
    expect(await kernel.os.fs.readText("/f")).toBe("new");
    expect(await kernel.os.fs.exists("/new")).toBe(false);
  });

  test("counters that are changed under a lock lose nothing, whoever changes them", async () => {
    const many = await Promise.all(Array.from({ length: 8 }, () => process()));
    await kernel.os.fs.writeFile("/count", "0");
    await Promise.all(
      many.map(async (os) => {
        for (let round = 0; round < 25; round++) {
          const { fence, lockId } = await lock(os, "/count");
          const count = Number(await os.fs.readText("/count"));
          await os.fs.write("/count", String(count + 1), { fence });
          await unlock(os, "/count", { lockId });
        }
      }),
    );
    expect(await kernel.os.fs.readText("/count")).toBe("200");
  });
});

describe("restarts", () => {
  test("locks of processes that go on are held with the next host, and their numbers go on rising", async () => {
    const store = new LastingStore();
    const { program, context } = openProgram();
    const node = createNodePlatform();
    let offset = 0;
    const clock = { now: () => node.clock.now() + offset, monotonic: () => node.clock.monotonic() + offset };
    const platform: Platform = { ...node, clock };
    const first = await bootKernel({ store: store.life(), programs: [program], platform });
    const pid = await first.os.spawn(program, { grants: ["lock.*", "fs.*"] });
    const { os } = await context;
    const { fence } = await lock(os, "x", { ttlMs: 1000 });
    const volatile = await first.os.spawn(openProgram("gone").program, { durable: false });
    await lock(first.osOf(volatile), "y");
    await first.close();
    offset = 50_000;
    const second = await bootKernel({ store: store.life(), programs: [program], platform });
    expect(await second.os.call("locks", {})).toMatchObject([{ path: "/sys/locks/x", holders: [{ pid, fence }] }]);
    await expect(lock(second.os, "x", { waitMs: 0 })).rejects.toMatchObject(refused("EAGAIN"));
    expect(await lock(second.os, "y")).toMatchObject({ fence: fence + 2 });
    offset += 1001;
    expect(await lock(second.os, "x", { waitMs: 5000 })).toMatchObject({ fence: fence + 3 });
    await second.close();
  });

  test("at a place a lock is taken once", async () => {
    const store = new LastingStore();
    const { program, context } = openProgram();
    const first = await bootKernel({ store: store.life(), programs: [program] });
    await first.os.spawn(program, { grants: ["lock.*"] });
    const { os } = await context;
    const grant = await os.call("lock", { path: "x", ttlMs: 60_000, place: "take" });
    expect(grant.fence).toBe(1);
    expect(await first.os.call("locks", {})).toHaveLength(1);
    await first.close();
  });
});

describe("the queue against a model", () => {
  const PATHS = ["/", "/a", "/a/b", "/a/b/c", "/a/x", "/d", "/d/e"].map((path) => toPath(path));
  const MODES = ["exclusive", "shared", "counting"] as const;
  const isRelated = (one: string, other: string): boolean =>
    one === other || one === "/" || other === "/" || one.startsWith(`${other}/`) || other.startsWith(`${one}/`);
  type Claim = LockWaiter & { readonly id: number; isHeld: boolean };

  test("never lets two hold that exclude each other, never lets a newcomer pass, and forgets nobody", () => {
    for (let seed = 1; seed <= 300; seed++) {
      let state = seed * 2654435761;
      const random = (bound: number): number => {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0;
        return (state >>> 8) % bound;
      };
      const queue = new LockQueue();
      const holders: Claim[] = [];
      const waiters: Claim[] = [];
      /** Whether the model lets a claim be held, with those that wait before it. */
      const fits = (claim: Claim, ahead: readonly Claim[]): boolean => {
        const counted = holders.filter(({ path, mode }) => path === claim.path && mode === "counting").length;
        if (claim.mode === "counting" && counted >= claim.room) return false;
        if (holders.some((held) => isRelated(held.path, claim.path) && excludes(held, claim))) return false;
        return !ahead.some(
          (one) =>
            isRelated(one.path, claim.path) &&
            (excludes(one, claim) || (one.path === claim.path && one.mode === "counting" && claim.mode === "counting")),
        );
      };
      const settle = (): void => {
        for (let at = 0; at < waiters.length;) {
          const claim = waiters[at];
          if (claim === undefined || !fits(claim, waiters.slice(0, at))) at++;
          else {
            waiters.splice(at, 1);
            holders.push(claim);
            at = 0;
          }
        }
      };
      for (let id = 0; id < 120; id++) {
        const what = random(5);
        if (what < 3) {
          const mode = MODES[random(3)] ?? "shared";
          const claim: Claim = {
            path: PATHS[random(PATHS.length)] ?? toPath("/"),
            mode,
            room: 2,
            id,
            isHeld: false,
            served: () => (claim.isHeld = true),
          };
          const wanted = fits(claim, waiters);
          expect(queue.take(claim), `seed ${seed} claim ${id}`).toBe(wanted);
          if (wanted) holders.push(Object.assign(claim, { isHeld: true }));
          else {
            queue.wait(claim);
            waiters.push(claim);
          }
        } else if (what === 3 && holders.length > 0) {
          const [gone] = holders.splice(random(holders.length), 1);
          if (gone !== undefined) queue.release(gone.path, gone.mode);
          settle();
        } else if (waiters.length > 0) {
          const [gone] = waiters.splice(random(waiters.length), 1);
          if (gone !== undefined) queue.leave(gone);
          settle();
        }
        expect(
          holders.filter(({ isHeld }) => !isHeld),
          `seed ${seed} step ${id}`,
        ).toEqual([]);
        expect(
          waiters.filter(({ isHeld }) => isHeld),
          `seed ${seed} step ${id}`,
        ).toEqual([]);
        expect(queue.size).toBe(waiters.length);
      }
    }
  });
});

test("ten thousand that wait for one lock are served in turn", async () => {
  const os = kernel.os;
  const first = await lock(os, "hot");
  const served: number[] = [];
  const all = Array.from({ length: 10_000 }, async (_none, at) => {
    const { lockId } = await lock(os, "hot");
    served.push(at);
    await unlock(os, "hot", { lockId });
  });
  await unlock(os, "hot", { lockId: first.lockId });
  await Promise.all(all);
  expect(served).toEqual(Array.from({ length: 10_000 }, (_none, at) => at));
  const pid: Pid = os.pid;
  expect(await os.call("locks", { path: "hot" })).toEqual([]);
  expect(pid).toBe(1);
});

test("a thousand processes wait for one lock, each looked at for a circle", async () => {
  const all = await Promise.all(Array.from({ length: 1000 }, process));
  const first = await lock(kernel.os, "hot");
  const served: number[] = [];
  const waits = all.map(async (os, at) => {
    const { lockId } = await lock(os, "hot");
    served.push(at);
    await unlock(os, "hot", { lockId });
  });
  await unlock(kernel.os, "hot", { lockId: first.lockId });
  await Promise.all(waits);
  expect(served).toEqual(all.map((_os, at) => at));
});

test("random calls on few paths of files, a mounted folder and locks end", async () => {
  const folder = mkdtempSync(join(tmpdir(), "ergos-locks-"));
  try {
    await kernel.mount("/m", await openFolder({ path: folder, writable: true }));
    const paths = ["/z/a", "/z/a/b", "/z/c", "/m/a", "/m/a/b", "/m/c", "/m/d/e"];
    let state = 42;
    const random = (bound: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state >>> 8) % bound;
    };
    const any = (): string => paths[random(paths.length)] ?? "/z/a";
    const one = async (): Promise<void> => {
      const { fs } = kernel.os;
      switch (random(8)) {
        case 0:
          return void (await fs.writeFile(any(), "text"));
        case 1:
          return fs.mkdir(any());
        case 2:
          return fs.unlink(any(), { recursive: true });
        case 3:
        case 4:
          return fs.rename(any(), any());
        case 5:
          return void (await fs.readdir(any()));
        case 6: {
          const { path, lockId } = await lock(kernel.os, any(), { waitMs: 20 });
          return void (await unlock(kernel.os, path, { lockId }));
        }
        default:
          return void (await fs.read(any()));
      }
    };
    let errors = 0;
    for (let round = 0; round < 40; round++)
      await Promise.all(
        Array.from({ length: 40 }, () =>
          one().catch((error: unknown) => void (errors += isKernelError(error) ? 1 : 1000)),
        ),
      );
    expect(errors).toBeLessThan(1600);
    expect(await kernel.os.call("checkStore", {})).toMatchObject({ problems: [] });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}, 30_000);

test("a rename of a mount waits for one lock only, whoever reads above it", async () => {
  const locks = new PathLocks(new LockOrder(createNodePlatform({ checksLocks: true }).locks));
  const slow = (): Promise<void> => new Promise((go) => setTimeout(go, 5));
  const [a, b] = [toPath("/m/a"), toPath("/m/b")];
  await Promise.all([
    locks.write(a, slow),
    locks.writeBoth(a, b, slow),
    locks.read(toPath("/m"), slow),
    locks.writeBoth(toPath("/m/foo"), toPath("/m/foo.bak/old"), slow),
    locks.writeBoth(toPath("/m/foo.bak"), toPath("/m/foo/bak"), slow),
    locks.writeBoth(b, a, slow),
  ]);
});

test("a process that ends while its path is looked up gets no lock", async () => {
  await kernel.os.fs.writeFile("/work/d/x", "");
  const os = await process();
  kernel.host.fs.namespace.forget();
  const locking = lock(os, "/work/d/x");
  const refusedLock = expect(locking).rejects.toBeDefined();
  await kernel.os.kill(os.pid, "KILL");
  await refusedLock;
  expect(await kernel.os.call("locks", {})).toEqual([]);
});

test("who waits for a semaphore of another room is told when it would be served", async () => {
  const [a, b, c, d] = await Promise.all([process(), process(), process(), process()]);
  await lock(a, "x");
  const waiting = Promise.allSettled([
    lock(b, "x", { maxHolders: 2 }),
    lock(c, "x", { maxHolders: 2 }),
    lock(d, "x", { maxHolders: 3 }),
  ]);
  await tick();
  await unlock(a, "x");
  expect((await waiting).map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "rejected"]);
});

test("who may not see a path does not see its lock", async () => {
  const poor = await processWith(kernel, ["lock.read"]);
  await lock(kernel.os, "/secret/file");
  await lock(kernel.os, "name");
  expect((await poor.call("locks", {})).map(({ path }) => path)).toEqual(["/sys/locks/name"]);
});

describe("in a debug build the order of the kernel's own locks is checked", () => {
  const order = new LockOrder(createNodePlatform({ checksLocks: true }).locks);
  const nothing = async (): Promise<void> => undefined;
  /** What comes of waiting for one while the other is held. */
  const within = (outer: LockKind, inner: LockKind): Promise<void> =>
    order.under(outer, 1, async () => order.under(inner, 2, nothing)())();

  test("who holds one waits only for those behind it", async () => {
    await within("directory renames", "inode");
    await within("inode", "path of a mount");
    for (const [outer, inner] of [
      ["inode", "directory renames"],
      ["inode", "inode"],
      ["path of a mount", "inode"],
    ] as const)
      await expect(within(outer, inner)).rejects.toMatchObject({
        code: "EDEADLK",
        message: expect.stringContaining(`${inner} 2 is waited for by who holds ${outer} 1`) as unknown,
      });
    await expect(order.under("inode", 1, async () => order.assertFree("a lock"))()).rejects.toMatchObject({
      code: "EDEADLK",
    });
  });

  test("what goes on behind it holds it no more, and others never did", async () => {
    let later: Promise<void> | undefined;
    await order.under("inode", 1, async () => {
      later = new Promise<void>((go) => setTimeout(go, 5)).then(() => order.under("inode", 2, nothing)());
    })();
    await later;
    order.assertFree("a lock");
  });

  test("a kernel keeps to it", async () => {
    expect(kernel.host.platform.locks).toBeDefined();
    await kernel.os.fs.writeFile("/srv/a/b", "x");
    await Promise.all([kernel.os.fs.rename("/srv/a", "/srv/c"), kernel.os.fs.writeFile("/srv/d", "y")]);
    expect(await kernel.os.fs.readText("/srv/c/b")).toBe("x");
  });
});

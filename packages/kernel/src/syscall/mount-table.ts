// Mounts of drivers: how they come into the namespace and leave it, with their hooks.

import type { MountDriver } from "../abi/file.ts";
import type { Platform } from "../abi/platform.ts";
import { KernelError } from "../base/errno.ts";
import { PID_OWNER } from "../base/id.ts";
import type { VfsPath } from "../base/path.ts";
import type { EventBus } from "../ipc/event-bus.ts";
import { GuardedMount, type MountLimits } from "../vfs/guarded-mount.ts";
import type { Namespace } from "../vfs/namespace.ts";
import type { HookTable } from "./hook-table.ts";

export interface MountTableParts {
  readonly namespace: Namespace;
  readonly bus: EventBus;
  readonly platform: Platform;
  readonly hooks: HookTable;
}

/** How long the end of a host waits for a driver. */
const CLOSE_MS = 2000;

interface Mounted {
  readonly guard: GuardedMount;
  readonly undo: readonly (() => void)[];
}

export class MountTable {
  readonly #parts: MountTableParts;
  readonly #mounted = new Map<VfsPath, Mounted>();
  /** Mounts that wait for what is under way. */
  readonly #leaving = new Map<VfsPath, Promise<void>>();

  constructor(parts: MountTableParts) {
    this.#parts = parts;
  }

  driverAt(at: VfsPath): MountDriver | undefined {
    return this.#mounted.get(at)?.guard.driver;
  }

  /** @throws {EBUSY} something is mounted there · what the driver throws, and then it is not mounted */
  async mount(at: VfsPath, driver: MountDriver, limits: MountLimits): Promise<void> {
    const { namespace, bus, platform, hooks } = this.#parts;
    const guard = new GuardedMount(driver, at, platform, limits);
    await this.#leaving.get(at);
    namespace.addMount({ at, kind: "driver", driver: guard });
    const undo: (() => void)[] = [];
    this.#mounted.set(at, { guard, undo });
    try {
      for (const hook of guard.hooks) undo.push(hooks.add(hook, undefined, driver.name));
      await guard.mounted();
    } catch (error) {
      for (const out of undo) out();
      // Somebody may have unmounted it, and mounted another.
      if (this.#isHere(at, guard)) {
        this.#mounted.delete(at);
        namespace.removeMount(at);
      }
      throw error;
    }
    if (!this.#isHere(at, guard)) throw new KernelError("ENODEV", "it was unmounted before it was ready", { path: at });
    bus.publish({ name: "mount.added", pid: PID_OWNER, data: { path: at, driver: driver.name } });
  }

  /** @throws {EINVAL} no driver is mounted there */
  async unmount(at: VfsPath): Promise<void> {
    const { namespace, bus } = this.#parts;
    const mounted = this.#mounted.get(at);
    if (mounted === undefined)
      throw new KernelError("EINVAL", "nothing is mounted here; see /sys/mounts", { path: at });
    this.#mounted.delete(at);
    for (const out of mounted.undo) out();
    // Until nothing of it is under way its path is nobody else's: what is written there would lie below it, unseen.
    const drained = mounted.guard.drain();
    this.#leaving.set(at, drained);
    await drained;
    this.#leaving.delete(at);
    namespace.removeMount(at);
    bus.publish({ name: "mount.removed", pid: PID_OWNER, data: { path: at } });
    await mounted.guard.close();
  }

  #isHere(at: VfsPath, guard: GuardedMount): boolean {
    return this.#mounted.get(at)?.guard === guard;
  }

  /** Ends all drivers; what does not end in a moment is left to itself. */
  async close(): Promise<void> {
    const ends = await Promise.allSettled(Array.from(this.#mounted.values(), ({ guard }) => guard.close(CLOSE_MS)));
    const failed = ends.find((end) => end.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  }
}

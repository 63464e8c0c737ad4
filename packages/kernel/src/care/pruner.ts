// Retention of ended processes: their records, journals and artifacts are deleted when they are old enough.
//
// P1  What is started belongs together: a process goes with everything below it or not at all, and after whoever may still
//     ask for its outcome. What the kernel has started by order of a schedule or a trigger nobody asks for.
// P2  What is quarantined stays, and whoever gave a grant that somebody still has.
// P3  Interrupted anywhere, it leaves processes that are whole, or can be deleted by the next one.

import { LEFT_PREFIX, leftKey } from "../budget/account.ts";
import { entriesOf } from "../abi/entries.ts";
import { PID_OWNER, type Pid, type RunId, type Seq, toPid } from "../base/id.ts";
import type { LayerTable } from "../cap/layer-table.ts";
import type { Committer } from "../ipc/committer.ts";
import { journalLog } from "../journal/record.ts";
import { artifactKeysOf, ownersOfArtifacts } from "../proc/artifact-table.ts";
import type { Family } from "../proc/family.ts";
import { decodeProcess, decodeTaker, processKey, spawnKey } from "../proc/process-record.ts";

export interface PruneRequest {
  /** Wall-clock milliseconds: what has ended before. */
  readonly endedBefore: number;
  /** As many of the newest runs stay, however old they are (default 0). */
  readonly keep?: number;
  /** Deletes runs that have left artifacts too, with these; otherwise they stay. */
  readonly artifacts?: boolean;
  /** Only tells what would be deleted. */
  readonly dryRun?: boolean;
}

export interface Pruned {
  /** Runs that were deleted, each with everything that was below it. */
  readonly runs: number;
  /** The first of them, newest first. */
  readonly newest: readonly RunId[];
  readonly processes: number;
  readonly artifacts: number;
}

interface Past {
  readonly pid: Pid;
  readonly ppid: Pid | undefined;
  readonly runId: RunId;
  readonly version: Seq;
  readonly layers: readonly string[];
  /** Where the store has the key that it was started under. */
  readonly key: string | undefined;
  /** Somebody may still ask for its outcome, as far as it is known by itself. */
  readonly isNeeded: boolean;
  /** It ends a chain of those that ask: nobody above it does. */
  readonly isTop: boolean;
}

export interface PrunerParts {
  readonly committer: Committer;
  readonly family: Family;
  readonly layers: LayerTable;
  /** Lets go of what else there is of a process. */
  readonly forget: (pid: Pid) => Promise<void>;
}

const SHOWN = 100;
const DELETES_PER_COMMIT = 1000;
const PROCESSES_PER_COMMIT = 100;

/** Deletes what has ended, as far as it may go. */
export async function prune(parts: PrunerParts, request: PruneRequest): Promise<Pruned> {
  const { committer, family } = parts;
  const { endedBefore, keep = 0, artifacts = false, dryRun = false } = request;
  const owners = await ownersOfArtifacts(committer.store);
  const processes = new Map<Pid, Past>();
  for await (const entry of entriesOf(committer.store, "p/")) {
    const { identity, ended, quarantined, caps = [] } = decodeProcess(entry);
    const { pid, ppid, runId, cause } = identity;
    const isOver = ended !== undefined && ended < endedBefore && quarantined === undefined;
    const isHere = family.get(pid)?.hasEnded === false;
    processes.set(pid, {
      pid,
      ppid,
      runId,
      version: entry.version,
      layers: caps,
      key: identity.key === undefined ? undefined : spawnKey(identity.user, identity.key),
      isNeeded: !isOver || isHere || (owners.has(pid) && !artifacts),
      isTop: ppid === undefined || ppid === PID_OWNER || cause !== undefined,
    });
  }
  const old = treesOf(processes, family).slice(keep);
  const stay = (trees: readonly (readonly Past[])[]): void => {
    for (const { pid } of trees.flat()) family.leaving.delete(pid);
  };
  // From here on nobody runs them again; those that stay are there again as soon as that is known.
  if (!dryRun) for (const { pid } of old.flat()) family.leaving.add(pid);
  try {
    const unchanged: (readonly Past[])[] = [];
    for (const tree of old)
      if (await isUnchanged(parts, tree)) unchanged.push(tree);
      else stay([tree]);
    const trees = await withoutGranters(parts, processes, unchanged);
    stay(unchanged.filter((tree) => !trees.includes(tree)));
    const found = {
      runs: trees.length,
      newest: trees.slice(0, SHOWN).flatMap(([top]) => top?.runId ?? []),
      processes: trees.reduce((sum, tree) => sum + tree.length, 0),
      artifacts: trees.flat().reduce((sum, { pid }) => sum + (owners.get(pid) ?? 0), 0),
    };
    if (!dryRun) await removeLeft(parts);
    if (dryRun || trees.length === 0) return found;
    const kept = new Set(processes.values());
    for (const process of trees.flat()) kept.delete(process);
    await remove(parts, trees.flat(), new Set([...kept].flatMap(({ layers }) => layers)));
    const { newest: _newest, ...data } = found;
    await committer.commit({}, [{ name: "store.pruned", pid: PID_OWNER, data }]);
    return found;
  } finally {
    stay(old);
  }
}

/** Whether nobody has run one of them again since they were read. */
async function isUnchanged({ committer, family }: PrunerParts, tree: readonly Past[]): Promise<boolean> {
  for (const { pid, version } of tree) {
    if (family.get(pid)?.hasEnded === false) return false;
    if ((await committer.store.get(processKey(pid)))?.version !== version) return false;
  }
  return true;
}

/** Leaves out those in which somebody gave a grant that one who stays has (P2). */
async function withoutGranters(
  { layers }: PrunerParts,
  processes: ReadonlyMap<Pid, Past>,
  trees: readonly (readonly Past[])[],
): Promise<readonly (readonly Past[])[]> {
  const treeOf = new Map(trees.flatMap((tree) => tree.map(({ pid }) => [pid, tree] as const)));
  const staying = [...processes.values()].filter(({ pid }) => !treeOf.has(pid));
  const inUse = new Set(staying.flatMap((process) => process.layers));
  const grantersOf = new Map<readonly Past[], Set<readonly Past[]>>();
  const kept = new Set<readonly Past[]>();
  for await (const { id, granters } of layers.stored()) {
    const holder = inUse.has(id) ? undefined : treeOf.get(pidOfLayer(id));
    for (const granter of granters) {
      const tree = treeOf.get(toPid(granter));
      if (tree === undefined) continue;
      if (holder === undefined) kept.add(tree);
      else grantersOf.set(holder, (grantersOf.get(holder) ?? new Set()).add(tree));
    }
  }
  // Whoever gave a grant to one who gave one stays too.
  for (const tree of kept) for (const granter of grantersOf.get(tree) ?? []) kept.add(granter);
  return trees.filter((tree) => !kept.has(tree));
}

async function remove(
  { committer, family, layers, forget }: PrunerParts,
  gone: readonly Past[],
  layersInUse: ReadonlySet<string>,
): Promise<void> {
  const leaving = new Set(gone.map(({ pid }) => pid));
  const extras: string[] = [];
  for await (const { id, keys } of layers.stored())
    if (leaving.has(pidOfLayer(id)) && !layersInUse.has(id)) extras.push(...keys);
  for (const { pid } of gone) {
    await forget(pid);
    extras.push(...(await artifactKeysOf(committer.store, pid)));
  }
  for (let at = 0; at < extras.length; at += DELETES_PER_COMMIT)
    await committer.commit({ deletes: extras.slice(at, at + DELETES_PER_COMMIT) });
  // Who was started later first: what is left is a tree.
  const order = [...gone].sort((one, two) => two.pid - one.pid);
  for (let at = 0; at < order.length; at += PROCESSES_PER_COMMIT) {
    const some = order.slice(at, at + PROCESSES_PER_COMMIT);
    const through = committer.store.seq;
    // One that was taken anew in between is another's.
    const taken: { readonly key: string; readonly version: Seq }[] = [];
    for (const { pid, key } of some) {
      const entry = key === undefined ? undefined : await committer.store.get(key);
      if (entry !== undefined && decodeTaker(entry).pid === pid) taken.push({ key: entry.key, version: entry.version });
    }
    await committer.commit({
      checks: [...some.map(({ pid, version }) => ({ key: processKey(pid), version })), ...taken],
      deletes: [...some.flatMap(({ pid }) => [processKey(pid), leftKey(pid)]), ...taken.map(({ key }) => key)],
      trims: some.map(({ pid }) => ({ log: journalLog(pid), through })),
    });
    for (const { pid } of some) {
      const process = family.get(pid);
      if (process !== undefined) family.remove(process);
    }
  }
}

/** What volatile processes had left of their budgets, of which nothing else is there. */
async function removeLeft({ committer, family }: PrunerParts): Promise<void> {
  const gone: string[] = [];
  for await (const { key } of entriesOf(committer.store, LEFT_PREFIX)) {
    const pid = toPid(Number(key.slice(LEFT_PREFIX.length)));
    if (family.get(pid) === undefined && (await committer.store.get(processKey(pid))) === undefined) gone.push(key);
  }
  for (let at = 0; at < gone.length; at += DELETES_PER_COMMIT)
    await committer.commit({ deletes: gone.slice(at, at + DELETES_PER_COMMIT) });
}

/** What may go, as trees with their tops first, the newest tree first (P1). */
function treesOf(processes: ReadonlyMap<Pid, Past>, family: Family): readonly (readonly Past[])[] {
  const staying = new Set<Pid>();
  const stay = (from: Past): void => {
    for (let at: Past | undefined = from; at !== undefined && !staying.has(at.pid);) {
      staying.add(at.pid);
      at = at.ppid === undefined ? undefined : processes.get(at.ppid);
    }
  };
  for (const process of processes.values()) if (process.isNeeded) stay(process);
  const trees = new Map<Pid, Past[]>();
  const topOf = new Map<Pid, Pid | undefined>();
  /** The top of the tree with which a process goes; nothing for one that stays. */
  const findTop = (process: Past): Pid | undefined => {
    const chain: Past[] = [];
    let top: Pid | undefined;
    for (let at: Past | undefined = process; at !== undefined;) {
      if (topOf.has(at.pid) || staying.has(at.pid)) {
        top = topOf.get(at.pid);
        break;
      }
      chain.push(at);
      const above: Past | undefined = at.ppid === undefined ? undefined : processes.get(at.ppid);
      // A parent without a record may be here still.
      const isAlone: boolean =
        above === undefined && (at.ppid === undefined || family.get(at.ppid)?.hasEnded !== false);
      if (at.isTop || isAlone) {
        top = at.pid;
        break;
      }
      at = above;
    }
    for (const { pid } of chain) topOf.set(pid, top);
    return top;
  };
  for (const process of processes.values()) {
    const top = findTop(process);
    if (top === undefined) continue;
    const tree = trees.get(top);
    if (tree === undefined) trees.set(top, [process]);
    else tree.push(process);
  }
  for (const [top, tree] of trees) tree.sort((one, two) => Number(two.pid === top) - Number(one.pid === top));
  return [...trees].sort(([one], [two]) => two - one).map(([, tree]) => tree);
}

/** Layers of processes are named `<pid>` and `<pid>.<number>`; those of passes otherwise. */
const pidOfLayer = (id: string): Pid => toPid(/^\d+(?:\.\d+)?$/.test(id) ? Math.floor(Number.parseFloat(id)) : 0);

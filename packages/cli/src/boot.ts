// The composition root: the only file that names drivers. It uses nothing that another privileged caller lacks.

import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { userInfo } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  KERNEL_VERSION,
  Kernel,
  type KernelParts,
  type Governance,
  KernelError,
  type Metastore,
  type MountDriver,
  type MountLimits,
  type Model,
  type ObjectStore,
  type Os,
  type Platform,
  type PriceList,
  type Program,
  type ProgramLoader,
  type ProgramSource,
  RUNTIMES,
  type SecretStore,
  type ServiceModule,
  type Tool,
  describe,
  toPath,
  Serial,
} from "@ergos/kernel";
import type { ProcessRuntime } from "@ergos/drivers/runtime-process";
import { createCalendar } from "@ergos/drivers/calendar";
import { DiskObjectStore } from "@ergos/drivers/disk";
import { openFolder } from "@ergos/drivers/folder";
import { type FileSecrets, environmentSecrets, fileSecrets } from "@ergos/drivers/secrets";
import { createPassAuthority, openAnchor, openKeys } from "@ergos/drivers/keys";
import { MemoryMetastore, MemoryObjectStore } from "@ergos/drivers/memory";
import { createOfflineModel } from "@ergos/drivers/model-offline";
import { providersOf } from "@ergos/drivers/model-openai";
import { createNet } from "@ergos/drivers/net";
import {
  type Watchdog,
  type WatchdogReport,
  createNodePlatform,
  startWatchdog,
  takeWatchdogReport,
} from "@ergos/drivers/platform-node";
import { SqliteMetastore, isOwned, networkFilesystemOf, readOwner, takeDirectory } from "@ergos/drivers/sqlite";
import { type OpenZone, openZoneMount } from "@ergos/drivers/zone";
import { type Code, SYSTEM_LIBRARIES, toPrograms } from "@ergos/services";
import { type ControlSocket, serveControlSocket } from "@ergos/server";
import { contentOf } from "./import-fresh.ts";
import { HOST_TOOLS } from "./host-tools.ts";
import { PROFILES, type Profile, type ProfileName, assertHas } from "./profile.ts";
import { DEFAULT_ZONE, zoneDirectory, zoneOf, zonesOf } from "./zone.ts";
import { isManifestFile, labelOf, loadProgram, loadService } from "./module-program.ts";

export { attenuatePass, describePass, openKeys, sealPass } from "@ergos/drivers/keys";
export { createOpenAiModel, createOpenAiProvider, toModel } from "@ergos/drivers/model-openai";
export { createOfflineModel, isOwned, networkFilesystemOf, readOwner };

/** Asked when a key of OpenAI is set and nobody names a model. */
const DEFAULT_OPENAI_MODEL = "gpt-4.1-mini";

/** Values of the environment that are at least this long are masked although nobody has read them. */
const MASKED_LENGTH_MIN = 16;

export interface MountSpec {
  /** Path in the namespace. */
  readonly at: string;
  /** Folder of the machine; with `zone` a directory in that. */
  readonly path: string;
  /** Zone of the data directory that is mounted; only the default one may see others. */
  readonly zone?: string;
  readonly writable?: boolean;
  /** Follow links that stay inside the folder (default: no). Rights are checked on the path with the link in it. */
  readonly followLinks?: boolean;
  /** How much it may hold, in bytes and entries. */
  readonly quota?: MountLimits["quota"];
}

/** What calls under way may take when a host with a directory ends, in milliseconds. */
const DRAIN_MS = 10_000;

export interface HostOptions {
  /** Data directory; without it everything is in memory and ends with this process. */
  readonly dir?: string;
  /**
   * Models by preference, the first is the default. Without it `provider/model` names those of the servers
   * whose keys are in the environment, and the default is ERGOS_MODEL, a model of OpenAI, or the offline one.
   */
  readonly models?: readonly Model[];
  /**
   * What a new data directory keeps its data in (default $ERGOS_STORE, or `sqlite`); one that is there keeps its own.
   * `lmdb` needs the package of that name.
   */
  readonly store?: "sqlite" | "lmdb";
  /**
   * How much of a host there is: `slim` ⊂ `embedded` ⊂ `lite` ⊂ `full` (default). With `remote` this process is none, and
   * talks to the one that runs over the directory.
   */
  readonly profile?: ProfileName;
  /** A pass to act under instead of as the owner: its rights are those of this connection. */
  readonly pass?: string;
  /** Tools beside those over files. */
  readonly tools?: readonly Tool<Os>[];
  /** Programs that can be started by their names, and are found by them after a restart: pipelines, plans, programs, named functions. */
  readonly programs?: readonly Code[];
  /** Services of this host beside the system libraries; each is started with its first call. */
  readonly services?: readonly ServiceModule[];
  /** Prices by the name of a model or a glob, in dollars per million tokens; those of `prices.json` otherwise. */
  readonly prices?: PriceList;
  /** Folders of the machine, or trees of other zones, at paths of the namespace; read-only unless `writable`. */
  readonly mounts?: readonly MountSpec[];
  /** Who the owner of this host is, for ledger, audit and policies (default: the user of the machine). */
  readonly user?: string;
  /** Answer other commands over the control socket (default true with a directory). */
  readonly serve?: boolean;
  /**
   * Milliseconds that calls of models, tools and the network may still take when the host ends (default 10,000 with a
   * directory, else none); what is cut off then fails with EUNKNOWN when its process goes on.
   */
  readonly drainMs?: number;
  /** Milliseconds after which blocking code ends the host; 0 turns the watchdog off (default off for libraries). */
  readonly watchdogMs?: number;
}

export interface BootedHost {
  readonly kernel: Kernel;
  /** What the watchdog of the host before saw, if it ended it. */
  readonly watchdogReport: WatchdogReport | undefined;
  close(): Promise<void>;
}

/** Clock and timers of this machine. */
export const timers = (): Pick<Platform, "clock" | "setTimer"> => createNodePlatform();

/**
 * Opens a host over a data directory, or in memory.
 * @param openZone opens the data directory of a zone that is mounted; without it none is
 * @throws {EBUSY} another process owns the directory
 */
export async function bootHost(
  options: HostOptions,
  openZone?: (dir: string) => Promise<OpenZone>,
): Promise<BootedHost> {
  // What is wrong with them is said before anything is opened.
  const programs = toPrograms(options.programs ?? []);
  const dir = options.dir === undefined ? undefined : resolve(options.dir);
  const reportFile = dir === undefined ? undefined : join(dir, "watchdog.json");
  const profile = profileOf(options);
  let kernel: Kernel | undefined;
  const guests = new Guests(() => kernel?.host.id ?? "", dir, profile);
  const stores = await openStores(dir, options.store);
  let socket: ControlSocket | undefined;
  let watchdog: Watchdog | undefined;
  try {
    const isWatched = options.watchdogMs !== undefined && options.watchdogMs > 0 && reportFile !== undefined;
    // Whoever only looks something up does not tell of it, and leaves it for who does.
    const watchdogReport = isWatched ? takeWatchdogReport(reportFile) : undefined;
    // Its thread comes up while the rest does.
    watchdog = isWatched ? startWatchdog({ limitMs: options.watchdogMs, reportFile }) : undefined;
    const { store, objects } = stores;
    const keys = openKeys(dir === undefined ? undefined : join(dir, "keys"));
    // Programs are loaded through the kernel, whose mounts they ask for.
    let folders: FolderMounts | undefined;
    const platform = createNodePlatform(watchdog === undefined ? {} : { entered: watchdog.entered });
    const secrets = secretsOf(dir);
    kernel = await Kernel.boot({
      store,
      objects,
      platform,
      secrets: secrets.stores,
      ...(profile.drivers.includes("net")
        ? { net: createNet(process.env["NODE_USE_ENV_PROXY"] === "1" ? { proxyEnv: process.env } : {}) }
        : {}),
      ...(profile.drivers.includes("calendar") ? { calendar: createCalendar() } : {}),
      ...(dir === undefined ? {} : await policyOf(dir)),
      ...modelsOf(options, profile, secrets.environment, async (name) => {
        if (kernel === undefined) throw new KernelError("EBUSY", "the host is still starting");
        return kernel.host.vault.get(name);
      }),
      tools: [...(profile.tools ? HOST_TOOLS : []), ...(options.tools ?? [])],
      programs,
      services: [
        ...SYSTEM_LIBRARIES.filter(({ name }) => profile.services.includes(name)),
        ...(options.services ?? []),
      ],
      serviceLoader: loadService,
      prices: { ...(dir === undefined ? {} : readPrices(join(dir, "prices.json"))), ...options.prices },
      loader: moduleLoader(async (mounts, module) => folders?.mount(mounts, module), secrets.environment, guests),
      user: options.user ?? userInfo().username,
      signer: keys,
      ...(dir === undefined ? {} : zonePartsOf(dir)),
      ...(dir === undefined ? {} : { anchor: openAnchor(join(dir, "keys", "audit.head")) }),
      passes: (issuer) => createPassAuthority(keys, issuer),
    });
    // What the environment and the file hold is masked from the beginning, whoever reads it.
    // A short value may be a word like any other; it is masked once somebody reads it as a secret.
    for (const value of secrets.values) if (value.length >= MASKED_LENGTH_MIN) kernel.host.vault.learn(value);
    const booted = kernel;
    // What children of a host that died have left running.
    const host = kernel.host;
    if (host.processes.all.some(({ identity }) => identity.program.source?.runtime === "process"))
      (await import("@ergos/drivers/runtime-process")).killStrays(`${host.id}/`);
    folders = new FolderMounts(kernel, dir, profile, openZone);
    await folders.mount(options.mounts ?? []);
    const serves = options.serve !== false && profile.drivers.includes("control-socket");
    if (dir !== undefined && serves) socket = await serveControlSocket(kernel, dir);
    const close = once(async () => {
      const drainMs = options.drainMs ?? (dir === undefined ? 0 : DRAIN_MS);
      try {
        await booted.close({ drainMs, quiet: async () => socket?.close() });
      } finally {
        watchdog?.stop();
        guests.close();
      }
    });
    return { kernel, watchdogReport, close };
  } catch (error) {
    watchdog?.stop();
    guests.close();
    if (kernel !== undefined) await kernel.close();
    else {
      await stores.store.close();
      await stores.objects.close();
    }
    throw error;
  }
}

/** @throws {EINVAL} there is no profile of that name, or one that makes no host */
function profileOf({ profile = "full" }: HostOptions): Profile {
  if (profile !== "remote" && Object.hasOwn(PROFILES, profile)) return PROFILES[profile];
  throw new KernelError(
    "EINVAL",
    `${JSON.stringify(profile)} is no profile of a host; there are ${Object.keys(PROFILES).join(", ")}`,
  );
}

/** What a host knows of zones: the default one of all, any other of itself. */
function zonePartsOf(dir: string): Pick<KernelParts, "zone" | "zones"> {
  const zone = zoneOf(dir);
  if (zone !== DEFAULT_ZONE) return { zone };
  return {
    zone,
    zones: () => zonesOf(dir).map((name) => ({ name, state: isOwned(zoneDirectory(dir, name)) ? "open" : "closed" })),
  };
}

/**
 * Removes a zone with everything in it.
 * @throws {ENOENT} there is none of that name · {EBUSY} a host has it open
 */
export function removeZone(root: string, zone: string): void {
  if (!zonesOf(root).includes(zone)) throw noZone(root, zone);
  const dir = zoneDirectory(root, zone);
  const ownership = takeDirectory(dir);
  try {
    rmSync(dir, { recursive: true });
  } finally {
    ownership.release();
  }
}

function noZone(root: string, zone: string): KernelError {
  const names = zonesOf(root);
  return new KernelError(
    "ENOENT",
    `${root} has no zone ${zone}; ${names.length === 0 ? "it has none but the default one" : `there is ${names.join(", ")}`}`,
  );
}

/** Models that were given; else those of the environment, with the offline stand-in when there is no key. */
function modelsOf(
  { models }: HostOptions,
  profile: Profile,
  env: Environment,
  keyOf: (name: string) => Promise<string>,
): Pick<KernelParts, "models" | "providers" | "defaultModel"> {
  if (models !== undefined) return { models };
  if (!profile.drivers.includes("model-openai")) return { models: [createOfflineModel()] };
  const hasServer = (env["OPENAI_API_KEY"] ?? "") !== "" || (env["OPENAI_BASE_URL"] ?? "") !== "";
  const chosen =
    env["ERGOS_MODEL"] ?? (hasServer ? `openai/${env["OPENAI_MODEL"] ?? DEFAULT_OPENAI_MODEL}` : undefined);
  return {
    models: [createOfflineModel()],
    providers: providersOf(env, keyOf),
    ...(chosen === undefined || chosen === "" ? {} : { defaultModel: chosen }),
  };
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Where the encrypted secrets of a data directory are, and what opens them. */
export function openSecrets(dir: string): FileSecrets {
  const { ERGOS_SECRETS_PASSPHRASE: passphrase } = process.env;
  const hasPassphrase = passphrase !== undefined && passphrase !== "";
  return fileSecrets({
    file: join(dir, "secrets.json"),
    ...(hasPassphrase ? { passphrase } : { keyFile: join(dir, "keys", "secrets.key") }),
  });
}

/** Secrets of the environment and of the data directory; the real environment wins. What cannot be opened is told. */
function secretsOf(dir: string | undefined): {
  readonly stores: readonly SecretStore[];
  readonly environment: Environment;
  /** All that could be read. */
  readonly values: readonly string[];
} {
  const real = environmentSecrets(process.env);
  const stores: SecretStore[] = [real];
  const values: Record<string, string | undefined> = {};
  const warn = (error: unknown): void => process.emitWarning(`a secret is left out: ${describe(error)}`);
  try {
    const kept = dir === undefined || !existsSync(join(dir, "secrets.json")) ? undefined : openSecrets(dir);
    if (kept !== undefined) stores.push(kept);
    for (const name of kept?.names() ?? []) {
      try {
        values[name] = kept?.get(name);
      } catch (error) {
        warn(error);
      }
    }
  } catch (error) {
    // Most of what a host is asked for needs none of them.
    warn(error);
  }
  const known = [...Object.values(values), ...real.names().map((name) => process.env[name])];
  return { stores, environment: { ...values, ...process.env }, values: known.filter((value) => value !== undefined) };
}

/**
 * Opens the store that a directory was made with; a new one is made with what is wanted.
 * @throws {EINVAL} there is none of that name
 */
async function openMetastore(dir: string, wanted: string | undefined): Promise<Metastore> {
  const found = existsSync(join(dir, "store.mdb")) ? "lmdb" : existsSync(join(dir, "store.db")) ? "sqlite" : undefined;
  const name = found ?? (wanted === undefined || wanted === "" ? "sqlite" : wanted);
  if (name !== "sqlite" && name !== "lmdb")
    throw new KernelError("EINVAL", `there is no store ${JSON.stringify(name)}; ERGOS_STORE is sqlite or lmdb`);
  if (name === "sqlite") return SqliteMetastore.open({ dir });
  const { LmdbMetastore } = await import("@ergos/drivers/lmdb");
  return LmdbMetastore.open({ dir });
}

interface Stores {
  readonly store: Metastore;
  readonly objects: ObjectStore;
}

async function openStores(dir: string | undefined, wanted: HostOptions["store"]): Promise<Stores> {
  if (dir === undefined) return { store: new MemoryMetastore(), objects: new MemoryObjectStore() };
  const store = await openMetastore(dir, wanted ?? process.env["ERGOS_STORE"]);
  try {
    mkdirSync(join(dir, "blobs"), { recursive: true, mode: 0o700 });
    return { store, objects: await DiskObjectStore.open(join(dir, "blobs")) };
  } catch (error) {
    await store.close();
    throw error;
  }
}

/** What a child finds of the environment: where programs and its user's folders are, and no secret. */
const CHILD_ENVIRONMENT = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "ERGOS_LOAD_MS"];

/** What is enforced on child processes on this machine. */
export const childConfinement = async (): Promise<{
  readonly diesWithHost: boolean;
  readonly boundsTime: boolean;
  readonly canConfine: boolean;
}> => (await import("@ergos/drivers/runtime-process")).processConfinement();

/** Children that a host has ready once it has started one. */
const SPARE_CHILDREN = 1;

/** Programs in threads and in processes of the machine, whose drivers are loaded with the first. */
class Guests {
  readonly #owner: () => string;
  readonly #dir: string | undefined;
  readonly #profile: Profile;
  #processes: ProcessRuntime | undefined;

  constructor(owner: () => string, dir: string | undefined, profile: Profile) {
    this.#owner = owner;
    this.#dir = dir;
    this.#profile = profile;
  }

  async load(source: ProgramSource): Promise<Program> {
    const file = source.module ?? "";
    if ((source.runtime !== "process" && source.runtime !== "worker") || isManifestFile(file))
      throw new KernelError(
        "EINVAL",
        `${file} cannot run as ${JSON.stringify(source.runtime)}; modules run as ${RUNTIMES.join(" or ")}, pipelines inline`,
      );
    assertHas(this.#profile, `runtime-${source.runtime}`, file);
    const named = { ...source, name: source.name ?? labelOf(file, source.export) };
    // Of a module with several programs each has definitions of its own.
    const revision = source.export === undefined ? contentOf(file) : `${contentOf(file)}#${source.export}`;
    if (source.runtime === "process") {
      const { ProcessRuntime: Runtime } = await import("@ergos/drivers/runtime-process");
      const hidden = this.#dir === undefined ? [] : [this.#dir];
      const parts = { ...GUESTS, bootstrap: [BOOTSTRAP], owner: this.#owner(), hidden, spares: SPARE_CHILDREN };
      return (this.#processes ??= new Runtime(parts)).toProgram(named, revision);
    }
    const { createWorkerRuntime } = await import("@ergos/drivers/runtime-worker");
    return createWorkerRuntime({ ...GUESTS, bootstrap: BOOTSTRAP })(named, revision);
  }

  close(): void {
    this.#processes?.close();
  }
}

const BOOTSTRAP = fileURLToPath(new URL("../bin/ergos-child.js", import.meta.url));
const GUESTS = {
  environment: Object.fromEntries(CHILD_ENVIRONMENT.map((name) => [name, process.env[name] ?? ""])),
  hostVersion: KERNEL_VERSION,
};

/** Loads a program, and mounts what it asks for with the input of the process. */
function moduleLoader(
  mount: (mounts: readonly MountSpec[], module: string) => Promise<void>,
  environment: Environment,
  guests: Guests,
): ProgramLoader {
  return async (source, input) => {
    if (source.confined === true && source.runtime !== "process")
      throw new KernelError("EINVAL", `only a process of the machine is confined, found ${source.runtime ?? "inline"}`);
    if (source.runtime !== undefined && source.runtime !== "inline") return guests.load(source);
    const { program, mounts } = await loadProgram(source, environment);
    await mount(mounts(input), source.module ?? "");
    return program;
  };
}

/**
 * The folders of a host: those that it was given, which stay, and those that programs asked for, which make
 * room when their runs are over. One caller at a time: two that want one place must not both find it free.
 */
class FolderMounts {
  readonly #kernel: Kernel;
  /** Who asked for a mount, and the newest process of that moment: its run is a later one. */
  readonly #asked = new Map<string, { readonly module: string; readonly after: number }>();
  readonly #serial = new Serial();
  readonly #dir: string | undefined;
  readonly #profile: Profile;
  readonly #openZone: ((dir: string) => Promise<OpenZone>) | undefined;

  constructor(
    kernel: Kernel,
    dir: string | undefined,
    profile: Profile,
    openZone: ((dir: string) => Promise<OpenZone>) | undefined,
  ) {
    this.#kernel = kernel;
    this.#dir = dir;
    this.#profile = profile;
    this.#openZone = openZone;
  }

  /** @throws {EBUSY} something else is mounted there, and may still be needed */
  mount(mounts: readonly MountSpec[], module?: string): Promise<void> {
    return this.#serial.run(() => this.#mountAll(mounts, module));
  }

  async #mountAll(mounts: readonly MountSpec[], module: string | undefined): Promise<void> {
    for (const mount of mounts) {
      const { zone } = mount;
      assertHas(this.#profile, zone === undefined ? "folder" : "zone", mount.at);
      const path = zone === undefined ? resolve(mount.path) : `${zone}:${toPath(mount.path)}`;
      const writable = mount.writable === true;
      const there = this.#kernel.mountAt(mount.at);
      if (there?.source !== path || there.readOnly === writable) {
        if (there !== undefined && !this.#isOver(mount.at))
          throw new KernelError(
            "EBUSY",
            `${mount.at} is already ${there.source}; wait for the runs that read it, or mount ${path} elsewhere`,
            { path: mount.at },
          );
        const driver =
          zone === undefined
            ? await openFolder({ path, writable, followLinks: mount.followLinks === true })
            : await this.#zone(zone, mount);
        if (there !== undefined) await this.#kernel.unmount(mount.at);
        try {
          await this.#kernel.mount(mount.at, driver, mount.quota === undefined ? {} : { quota: mount.quota });
        } catch (error) {
          await driver.close();
          throw error;
        }
      }
      if (module !== undefined) this.#asked.set(mount.at, { module, after: this.#newestPid });
    }
  }

  /** @throws {EPERM} this host is a zone itself · {ENOENT} there is none of that name */
  #zone(zone: string, { path, writable }: MountSpec): Promise<MountDriver> {
    const [dir, openDirectory] = [this.#dir, this.#openZone];
    if (dir === undefined || openDirectory === undefined || zoneOf(dir) !== DEFAULT_ZONE)
      throw new KernelError("EPERM", "only the host of a data directory's default zone may mount its other zones");
    if (!zonesOf(dir).includes(zone)) throw noZone(dir, zone);
    const open = (): Promise<OpenZone> => openDirectory(zoneDirectory(dir, zone));
    return openZoneMount({ zone, path: toPath(path), writable: writable === true, open });
  }

  /** Whether the run that a mount was made for has begun, and nothing that might read it goes on. */
  #isOver(at: string): boolean {
    const asked = this.#asked.get(at);
    if (asked === undefined) return false;
    const { all, owner } = { all: this.#kernel.host.processes.all, owner: this.#kernel.os.pid };
    const hasBegun = all.some(
      ({ pid, identity }) => pid > asked.after && identity.program.source?.module === asked.module,
    );
    return hasBegun && !all.some((process) => process.pid !== owner && process.isAlive);
  }

  get #newestPid(): number {
    return this.#kernel.host.processes.all.reduce((newest, { pid }) => Math.max(newest, pid), 0);
  }
}

/** The policy of a data directory; one that cannot be read allows nobody but the owner anything, and says where. */
async function policyOf(dir: string): Promise<Pick<KernelParts, "governance">> {
  const [file, cedar] = [join(dir, "policy.yaml"), join(dir, "policy.cedar")];
  if (existsSync(cedar)) {
    if (existsSync(file)) return { governance: await nobody(`there are two policies, ${file} and ${cedar}; keep one`) };
    return { governance: await cedarOf(cedar, join(dir, "policy.entities.json")) };
  }
  if (!existsSync(file)) return {};
  // Loaded with the first policy: a host without one starts without the compiler.
  const [{ compilePolicy, fileHost, formatDiagnostic }, { denyAll, governPolicy }] = await Promise.all([
    import("@ergos/compiler"),
    import("@ergos/services/governance"),
  ]);
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    return { governance: denyAll(`${file} cannot be read: ${describe(error)}`) };
  }
  const { policy, diagnostics } = compilePolicy(text, { file, host: fileHost(file, process.env) });
  try {
    if (policy !== undefined) return { governance: governPolicy(policy) };
  } catch (error) {
    return { governance: denyAll(`${file} cannot be used: ${describe(error)}`) };
  }
  const [first] = diagnostics;
  return { governance: denyAll(first === undefined ? `${file} holds no policy` : formatDiagnostic(first)) };
}

const nobody = async (why: string): Promise<Governance> => (await import("@ergos/services/governance")).denyAll(why);

/** A policy in Cedar, with its entities beside it if there are any. */
async function cedarOf(file: string, entitiesFile: string): Promise<Governance> {
  try {
    const { createCedarGovernance } = await import("@ergos/drivers/governance-cedar");
    const policies = readFileSync(file, "utf8");
    // The driver looks at its form.
    const entities = existsSync(entitiesFile) ? (JSON.parse(readFileSync(entitiesFile, "utf8")) as unknown) : undefined;
    return await createCedarGovernance({ name: file, policies, ...(entities === undefined ? {} : { entities }) });
  } catch (error) {
    return nobody(describe(error));
  }
}

/**
 * Prices that the user has written down; none when there is no file.
 * @throws {EINVAL} it is no JSON
 */
function readPrices(file: string): PriceList {
  if (!existsSync(file)) return {};
  try {
    // The kernel checks its form.
    return JSON.parse(readFileSync(file, "utf8")) as PriceList;
  } catch (cause) {
    throw new KernelError("EINVAL", `${file} is no JSON: ${describe(cause)}`, { path: file, cause });
  }
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
}

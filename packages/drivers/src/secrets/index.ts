// `@ergos/drivers/secrets`: secrets of the environment, in memory, and in a file that is encrypted.
//
// The file is JSON: `{ v, salt, secrets: { name: { iv, data, tag } } }`, each value under AES-256-GCM with the name as
// associated data, so that values cannot change places. The key comes by scrypt from a passphrase, or is read from a
// key file that is made for the owner alone.

import { createCipheriv, createDecipheriv, randomBytes, scryptSync } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { KernelError, type SecretStore, describe } from "@ergos/kernel";

const FORMAT = 1;
const NAME = /^[A-Za-z_][A-Za-z0-9_.-]{0,127}$/;

/** Secrets whose names are at hand. */
export interface ListedSecrets extends SecretStore {
  names(): readonly string[];
}

/** Secrets of the environment: any variable, by its name. */
export function environmentSecrets(environment: Readonly<Record<string, string | undefined>>): ListedSecrets {
  return {
    name: "environment",
    get: (name) => (Object.hasOwn(environment, name) ? environment[name] : undefined),
    names: () => Object.keys(environment).filter((name) => /(KEY|SECRET|TOKEN|PASSWORD|CREDENTIALS?)$/.test(name)),
  };
}

export function memorySecrets(values: Readonly<Record<string, string>>): SecretStore {
  const secrets = new Map(Object.entries(values));
  return { name: "memory", get: (name) => secrets.get(name), names: () => [...secrets.keys()] };
}

export interface FileSecrets extends ListedSecrets {
  set(name: string, value: string): void;
  /** @returns whether it was there */
  remove(name: string): boolean;
  get(name: string): string | undefined;
}

interface Sealed {
  readonly iv: string;
  readonly data: string;
  readonly tag: string;
}

interface SecretFile {
  readonly v: number;
  readonly salt: string;
  readonly secrets: Readonly<Record<string, Sealed>>;
}

export interface FileSecretOptions {
  readonly file: string;
  /** What the key is derived from; without it the key is in `keyFile`. */
  readonly passphrase?: string;
  /** Read, or made for the owner alone. */
  readonly keyFile?: string;
}

/**
 * Secrets in an encrypted file. Values are decrypted when they are asked for.
 * @throws {EPERM} others may read the key file · {ECORRUPT} the file is none, or the key is another
 */
export function fileSecrets({ file, passphrase, keyFile }: FileSecretOptions): FileSecrets {
  const first = readSecrets(file);
  const keys = new Map<string, Buffer>();
  const keyFor = ({ salt }: SecretFile): Buffer => {
    const key = keys.get(salt) ?? keyOf(salt, passphrase, keyFile);
    keys.set(salt, key);
    return key;
  };
  keyFor(first);
  // Looked at each time: another process may have changed it.
  const read = (): SecretFile => (existsSync(file) ? readSecrets(file) : first);
  /** Several processes may change it at the same time: one after the other, each what the last one left. */
  const change = (work: (content: SecretFile) => SecretFile["secrets"] | undefined): boolean => {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    const free = holdLock(`${file}.lock`);
    try {
      const content = read();
      const secrets = work(content);
      if (secrets === undefined) return false;
      const next = `${file}.${process.pid}.next`;
      writeFileSync(next, JSON.stringify({ ...content, secrets }), { mode: 0o600 });
      renameSync(next, file);
      return true;
    } finally {
      free();
    }
  };
  return {
    name: "file",
    names: () => Object.keys(read().secrets).sort(),
    get: (name) => {
      const content = read();
      const sealed = Object.hasOwn(content.secrets, name) ? content.secrets[name] : undefined;
      return sealed === undefined ? undefined : open(sealed, name, keyFor(content), file);
    },
    set: (name, value) => {
      if (!NAME.test(name))
        throw new KernelError("EINVAL", `${JSON.stringify(name)} is no name of a secret; letters, digits, _ . and -`);
      change((content) => {
        const { secrets } = content;
        const key = keyFor(content);
        // One file has one key: what another could not open would be lost to either.
        const [one] = Object.entries(secrets);
        if (one !== undefined) open(one[1], one[0], key, file);
        return { ...secrets, [name]: seal(value, name, key) };
      });
    },
    remove: (name) =>
      change(({ secrets }) => {
        if (!Object.hasOwn(secrets, name)) return undefined;
        const { [name]: _gone, ...rest } = secrets;
        return rest;
      }),
  };
}

/** How long another process is waited for. */
const LOCK_WAIT_MS = 5000;
/** A lock as old as that was left by a process that has died. */
const LOCK_STALE_MS = 10_000;

/**
 * Takes a file as a lock, and gives what frees it.
 * @throws {EAGAIN} another process does not free it
 */
function holdLock(lock: string): () => void {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const token = randomBytes(16).toString("hex");
  for (let waited = 0; ; waited += 10) {
    try {
      writeFileSync(lock, token, { flag: "wx", mode: 0o600 });
      // One that was held for too long may have been taken by another meanwhile.
      return () => {
        if (existsSync(lock) && readFileSync(lock, "utf8") === token) rmSync(lock, { force: true });
      };
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      const { mtimeMs = Date.now() } = statSync(lock, { throwIfNoEntry: false }) ?? {};
      if (Date.now() - mtimeMs > LOCK_STALE_MS) rmSync(lock, { force: true });
      if (waited >= LOCK_WAIT_MS)
        throw new KernelError("EAGAIN", `another process changes the secrets; remove ${lock} if none does`, {
          path: lock,
          cause,
        });
      Atomics.wait(pause, 0, 0, 10);
    }
  }
}

function readSecrets(file: string): SecretFile {
  if (!existsSync(file)) return { v: FORMAT, salt: randomBytes(16).toString("base64"), secrets: {} };
  let content: Partial<SecretFile> | null;
  try {
    // Its fields are looked at below.
    content = JSON.parse(readFileSync(file, "utf8")) as typeof content;
  } catch (cause) {
    throw new KernelError("ECORRUPT", `${file} is no file of secrets: ${describe(cause)}`, { path: file, cause });
  }
  const { v, salt, secrets } = content ?? {};
  if (typeof v === "number" && v !== FORMAT)
    throw new KernelError("EVERSION", `${file} has format ${v}, this program reads ${FORMAT}`, { path: file });
  if (v === undefined || typeof salt !== "string" || !isSealed(secrets))
    throw new KernelError("ECORRUPT", `${file} is no file of secrets; put a copy of it back, or remove it`, {
      path: file,
    });
  return { v, salt, secrets };
}

const isSealed = (secrets: unknown): secrets is SecretFile["secrets"] =>
  typeof secrets === "object" &&
  secrets !== null &&
  Object.values(secrets).every(
    (one: Partial<Sealed> | null) =>
      typeof one?.iv === "string" && typeof one.data === "string" && typeof one.tag === "string",
  );

function keyOf(salt: string, passphrase: string | undefined, keyFile: string | undefined): Buffer {
  if (passphrase !== undefined) return scryptSync(passphrase, Buffer.from(salt, "base64"), 32);
  if (keyFile === undefined) throw new KernelError("EINVAL", "a file of secrets needs a passphrase or a key file");
  if (!existsSync(keyFile)) {
    mkdirSync(dirname(keyFile), { recursive: true, mode: 0o700 });
    writeFileSync(keyFile, randomBytes(32), { mode: 0o600, flag: "wx" });
  }
  if ((statSync(keyFile).mode & 0o077) !== 0)
    throw new KernelError("EPERM", `others may read ${keyFile}; give it mode 0600 and change the secrets`, {
      path: keyFile,
    });
  const key = readFileSync(keyFile);
  if (key.length !== 32) throw new KernelError("ECORRUPT", `${keyFile} is no key`, { path: keyFile });
  return key;
}

function seal(value: string, name: string, key: Buffer): Sealed {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, iv);
  cipher.setAAD(Buffer.from(name));
  const data = Buffer.concat([cipher.update(value, "utf8"), cipher.final()]);
  return { iv: iv.toString("base64"), data: data.toString("base64"), tag: cipher.getAuthTag().toString("base64") };
}

function open({ iv, data, tag }: Sealed, name: string, key: Buffer, file: string): string {
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(iv, "base64"), { authTagLength: 16 });
    decipher.setAAD(Buffer.from(name));
    decipher.setAuthTag(Buffer.from(tag, "base64"));
    return Buffer.concat([decipher.update(Buffer.from(data, "base64")), decipher.final()]).toString("utf8");
  } catch (cause) {
    throw new KernelError(
      "ECORRUPT",
      `the secret ${name} in ${file} cannot be opened: the key is another, or somebody has altered it`,
      {
        path: file,
        cause,
      },
    );
  }
}

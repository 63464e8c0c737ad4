// Ed25519 keys of a host, in owner-only files: one signs, old ones still verify.
//
// `<dir>/<key id>.pem` holds a private key (PKCS #8), `<dir>/<key id>.pub` the public part (SPKI), which stays when
// the private one is gone. The newest private key signs. A key id is the first 16 digits of the SHA-256 of the
// public key. Nothing of a private key is ever shown or logged.

import {
  type KeyObject,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  sign,
  verify,
} from "node:crypto";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type AuditAnchor, KernelError, type Signer, describe } from "@ergos/kernel";

export interface KeyRing extends Signer {
  /** Public keys by their ids, as JWK (RFC 8037). */
  readonly publicKeys: ReadonlyMap<string, KeyObject>;
  /** The key that signs. */
  readonly privateKey: KeyObject;
  /** Makes a new key, which signs from now on; returns its id. */
  rotate(): string;
}

const idOf = (key: KeyObject): string =>
  hash("sha256", key.export({ type: "spki", format: "der" }), "hex").slice(0, 16);

class Keys implements KeyRing {
  readonly #dir: string | undefined;
  readonly #public = new Map<string, KeyObject>();
  #private: KeyObject;
  keyId: string;

  constructor(dir: string | undefined) {
    this.#dir = dir;
    const newest = dir === undefined ? undefined : this.#read(dir);
    if (newest === undefined) {
      const made = this.#make();
      [this.#private, this.keyId] = [made.privateKey, made.id];
    } else [this.#private, this.keyId] = [newest.key, newest.id];
  }

  get publicKeys(): ReadonlyMap<string, KeyObject> {
    return this.#public;
  }

  get privateKey(): KeyObject {
    return this.#private;
  }

  sign(text: string): string {
    return sign(null, Buffer.from(text), this.#private).toString("base64url");
  }

  verify(text: string, signature: string, keyId: string): boolean {
    const key = this.#public.get(keyId);
    return key !== undefined && verify(null, Buffer.from(text), key, Buffer.from(signature, "base64url"));
  }

  rotate(): string {
    const made = this.#make();
    [this.#private, this.keyId] = [made.privateKey, made.id];
    return made.id;
  }

  #make(): { readonly privateKey: KeyObject; readonly id: string } {
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const id = idOf(publicKey);
    this.#public.set(id, publicKey);
    if (this.#dir === undefined) return { privateKey, id };
    writeFileSync(join(this.#dir, `${id}.pub`), publicKey.export({ type: "spki", format: "pem" }), { mode: 0o600 });
    // Made for the owner alone from the first byte on, and never over another.
    writeFileSync(join(this.#dir, `${id}.pem`), privateKey.export({ type: "pkcs8", format: "pem" }), {
      mode: 0o600,
      flag: "wx",
    });
    return { privateKey, id };
  }

  #read(dir: string): { readonly key: KeyObject; readonly id: string } | undefined {
    let newest: { readonly key: KeyObject; readonly id: string; readonly at: number } | undefined;
    for (const name of readdirSync(dir)) {
      const file = join(dir, name);
      try {
        if (name.endsWith(".pub")) {
          const key = createPublicKey(readFileSync(file));
          this.#public.set(idOf(key), key);
        } else if (name.endsWith(".pem")) {
          const { mode, mtimeMs } = statSync(file);
          if ((mode & 0o077) !== 0)
            throw new KernelError("EPERM", `others may read ${file}; rotate the keys and give it mode 0600`, {
              path: file,
            });
          const key = createPrivateKey(readFileSync(file));
          const id = idOf(createPublicKey(key));
          if (newest === undefined || mtimeMs > newest.at) newest = { key, id, at: mtimeMs };
        }
      } catch (cause) {
        if (cause instanceof KernelError) throw cause;
        throw new KernelError("ECORRUPT", `${file} is no key: ${describe(cause)}`, { path: file, cause });
      }
    }
    if (newest !== undefined) this.#public.set(newest.id, createPublicKey(newest.key));
    return newest;
  }
}

/**
 * Opens the keys of a directory, and makes the first; without a directory they end with the process.
 * @throws {EPERM} others may read a private key · {ECORRUPT} a file is no key
 */
export function openKeys(dir?: string): KeyRing {
  if (dir !== undefined && !existsSync(dir)) mkdirSync(dir, { recursive: true, mode: 0o700 });
  if (dir !== undefined) chmodSync(dir, 0o700);
  return new Keys(dir);
}

export { attenuatePass, createPassAuthority, describePass, sealPass, type Narrowing } from "./pass.ts";

/** A file of the owner's for the newest head of the audit chain. */
export function openAnchor(file: string): AuditAnchor {
  return {
    read: () => {
      try {
        return readFileSync(file, "utf8").trim();
      } catch {
        // There is none before the first orderly end of a host.
        return undefined;
      }
    },
    write: (head) => {
      const next = `${file}.next`;
      writeFileSync(next, `${head}\n`, { mode: 0o600 });
      renameSync(next, file);
    },
  };
}

// Passes: chains of signed blocks, each of which can only narrow the one before. `docs/spec/pass.md` is their law.
//
// A block is a JWS in its compact form, signed with Ed25519 (RFC 8037): the first by a key of the host, each other
// by the key that the block before names in `cnf` (RFC 7800). Behind the blocks stands a proof that the holder has
// the key of the last one: the key itself, with which the pass can be narrowed further, or a signature, which seals
// it. So nobody can leave a block out: he would need the key of the block before.

import {
  type KeyObject,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  hash,
  randomBytes,
  sign,
  verify,
} from "node:crypto";
import {
  KernelError,
  type PassAuthority,
  type PassClaims,
  type PassRequest,
  describe,
  parseGrants,
} from "@ergos/kernel";
import type { KeyRing } from "./index.ts";

const BLOCKS_MAX = 16;
const PASS_LENGTH_MAX = 32 * 1024;
/** Clocks differ: a pass counts this much before its time begins. It never counts after its end. */
const SKEW_MS = 60_000;
const FIRST = "ergos-pass+jwt";
const NEXT = "ergos-pass-block+jwt";

interface Jwk {
  readonly kty: "OKP";
  readonly crv: "Ed25519";
  readonly x: string;
}

/** Times are seconds, as in a JWT. */
interface Block {
  readonly jti: string;
  readonly grants: readonly string[];
  readonly nbf?: number;
  readonly exp?: number;
  readonly aud?: string;
  readonly cnf: { readonly jwk: Jwk };
}

interface FirstBlock extends Block {
  readonly iss: string;
  readonly sub: string;
  readonly aud: string;
  readonly pid: number;
  readonly iat: number;
  readonly exp: number;
}

interface NextBlock extends Block {
  /** SHA-256 of everything before the block, base64url. */
  readonly prev: string;
}

const toText = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

/**
 * The bytes of a part, which has one spelling only: base64url leaves bits of the last character unread, and Node leaves
 * out what is none. With a second spelling, one pass would have two names.
 */
function fromText(text: string): Buffer {
  const bytes = Buffer.from(text, "base64url");
  if (bytes.toString("base64url") !== text) throw refuse("is forged: a part of it is not spelt as base64url");
  return bytes;
}

const seconds = (ms: number): number => Math.floor(ms / 1000);

function signBlock(header: Readonly<Record<string, string>>, payload: Block, key: KeyObject): string {
  const text = `${toText({ alg: "EdDSA", ...header })}.${toText(payload)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString("base64url")}`;
}

/** A key pair for the next block. */
function nextKey(): { readonly jwk: Jwk; readonly secret: string } {
  const { privateKey } = generateKeyPairSync("ed25519");
  const { x = "", d = "" } = privateKey.export({ format: "jwk" });
  return { jwk: { kty: "OKP", crv: "Ed25519", x }, secret: d };
}

/** Never begins with a dash: people type it. */
const newId = (): string => `p${randomBytes(9).toString("base64url")}`;

/** The authority of a host over its passes. */
export function createPassAuthority(keys: KeyRing, issuer: string): PassAuthority {
  const verified = new Map<
    string,
    { readonly claims: PassClaims; readonly aud: readonly string[]; readonly nbf: number }
  >();
  return {
    issue: (request: PassRequest) => {
      parseGrants(request.grants);
      const { jwk, secret } = nextKey();
      const id = newId();
      const block: FirstBlock = {
        iss: issuer,
        sub: request.subject,
        aud: request.audience,
        pid: request.pid,
        iat: seconds(request.issued),
        nbf: seconds(request.notBefore),
        exp: seconds(request.expires),
        jti: id,
        grants: request.grants,
        cnf: { jwk },
      };
      return { pass: `${signBlock({ typ: FIRST, kid: keys.keyId }, block, keys.privateKey)}~k.${secret}`, id };
    },
    verify: (pass, audiences, now) => {
      if (typeof pass !== "string" || pass.length > PASS_LENGTH_MAX) throw refuse("is too long to be one");
      // What was verified once costs one lookup; only time and audience are looked at again.
      const known = verified.get(pass);
      const found = known ?? verifyChain(pass, keys, issuer);
      if (known === undefined) {
        if (verified.size >= 1000) verified.clear();
        verified.set(pass, found);
      }
      if (!found.aud.every((aud) => audiences.includes(aud)))
        throw refuse(`is for ${found.aud.join(" and ")}, not for this host`);
      if (found.claims.expires <= now) throw refuse(`expired at ${new Date(found.claims.expires).toISOString()}`);
      if (found.nbf > now + SKEW_MS) throw refuse(`is not valid before ${new Date(found.nbf).toISOString()}`);
      return found.claims;
    },
  };
}

/** Every signature, and that each block follows the one before. Says nothing of time and audience. */
function verifyChain(
  pass: string,
  keys: KeyRing,
  issuer: string,
): { readonly claims: PassClaims; readonly aud: readonly string[]; readonly nbf: number } {
  const { blocks, proof } = split(pass);
  const [text = "", ...rest] = blocks;
  const { header, payload } = parseBlock<FirstBlock>(text, FIRST);
  const key = typeof header["kid"] === "string" ? keys.publicKeys.get(header["kid"]) : undefined;
  if (key === undefined) throw refuse("is not signed by a key of this host");
  assertSigned(text, key, "its first block");
  if (payload.iss !== issuer) throw refuse("is of another host");
  const chain: Block[] = [payload];
  const names = [nameOf(text)];
  let holder = keyOf(payload);
  let before = text;
  for (const [at, next] of rest.entries()) {
    assertSigned(next, holder, `its block ${at + 2}`);
    const block = parseBlock<NextBlock>(next, NEXT).payload;
    if (block.prev !== hash("sha256", before, "base64url")) throw refuse(`has a block ${at + 2} of another pass`);
    chain.push(block);
    holder = keyOf(block);
    before = `${before}~${next}`;
    names.push(nameOf(before));
  }
  assertHeld(proof, holder, before);
  let least = Number.POSITIVE_INFINITY;
  const expiries = chain.map(({ exp }) => (least = Math.min(least, exp === undefined ? least : exp * 1000)));
  const aud = [...new Set(chain.flatMap((block) => block.aud ?? []))];
  const claims: PassClaims = {
    ids: chain.map(({ jti }) => jti),
    names,
    audience: aud,
    subject: payload.sub,
    pid: payload.pid,
    layers: chain.map(({ grants }) => grants),
    expires: least,
    expiries,
  };
  return {
    claims,
    aud,
    nbf: Math.max(...chain.map(({ nbf }) => (nbf ?? 0) * 1000)),
  };
}

const nameOf = (blocks: string): string => hash("sha256", blocks, "hex").slice(0, 32);

function split(pass: string): { readonly blocks: readonly string[]; readonly proof: string } {
  const parts = pass.trim().split("~");
  const proof = parts.pop() ?? "";
  if (parts.length === 0 || parts.length > BLOCKS_MAX) throw refuse("is cut off, or no pass at all");
  return { blocks: parts, proof };
}

function assertSigned(block: string, key: KeyObject, what: string): void {
  const dot = block.lastIndexOf(".");
  const signature = fromText(block.slice(dot + 1));
  if (dot <= 0 || signature.length !== 64 || !verify(null, Buffer.from(block.slice(0, dot)), key, signature))
    throw refuse(`is forged: ${what} is not signed as it must be`);
}

/** The holder shows the key of the last block, or has signed the whole with it. */
function assertHeld(proof: string, key: KeyObject, blocks: string): void {
  if (proof.startsWith("s.")) {
    const signature = fromText(proof.slice(2));
    if (signature.length === 64 && verify(null, Buffer.from(sealText(blocks)), key, signature)) return;
  } else if (proof.startsWith("k.")) {
    const { x = "" } = key.export({ format: "jwk" });
    const secret = proof.slice(2);
    if (fromText(secret).length === 32 && isKeyOf(secret, x)) return;
  }
  throw refuse("is cut off: nothing shows that its last block is held");
}

function isKeyOf(secret: string, x: string): boolean {
  try {
    return createPublicKey(secretKey(secret, x)).export({ format: "jwk" }).x === x;
  } catch {
    return false;
  }
}

const secretKey = (d: string, x: string): KeyObject =>
  createPrivateKey({ key: { kty: "OKP", crv: "Ed25519", d, x }, format: "jwk" });

const sealText = (blocks: string): string => `ergos pass seal 1\n${hash("sha256", blocks, "base64url")}`;

function keyOf({ cnf }: Block): KeyObject {
  try {
    return createPublicKey({ key: { ...cnf.jwk }, format: "jwk" });
  } catch {
    throw refuse("names a key that is none");
  }
}

function parseBlock<T extends Block>(
  text: string,
  type: string,
): { readonly header: Readonly<Record<string, unknown>>; readonly payload: T } {
  const [head = "", body = ""] = text.split(".").map(fromText);
  let header: Record<string, unknown>;
  let payload: T;
  try {
    header = JSON.parse(head.toString()) as Record<string, unknown>;
    // Its fields are looked at below.
    payload = JSON.parse(body.toString()) as T;
  } catch {
    throw refuse("cannot be read");
  }
  if (!isObject(header) || !isObject(payload)) throw refuse("cannot be read");
  if (header["alg"] !== "EdDSA" || header["typ"] !== type) throw refuse("is of another kind");
  const isTime = (value: unknown): boolean => value === undefined || Number.isSafeInteger(value);
  const isSound =
    typeof payload.jti === "string" &&
    /^[\w-]{1,64}$/.test(payload.jti) &&
    Array.isArray(payload.grants) &&
    payload.grants.every((grant) => typeof grant === "string") &&
    isTime(payload.nbf) &&
    isTime(payload.exp) &&
    isObject(payload.cnf) &&
    isObject(payload.cnf.jwk) &&
    (payload.aud === undefined || typeof payload.aud === "string");
  if (!isSound || (type === FIRST && payload.exp === undefined)) throw refuse("lacks what a pass must say");
  try {
    parseGrants(payload.grants);
  } catch (error) {
    throw refuse(`allows what nobody knows: ${describe(error)}`);
  }
  return { header, payload };
}

const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

const refuse = (why: string): KernelError => new KernelError("EACCES", `the pass ${why}`);

export interface Narrowing {
  readonly grants: readonly string[];
  /** Wall-clock milliseconds; not after the end that it has. */
  readonly expires?: number;
  readonly notBefore?: number;
}

/**
 * Narrows a pass without asking anybody: what the new one allows, the old one and the grants both allow.
 * @throws {EACCES} it is sealed, or no pass · {EINVAL} a grant is none
 */
export function attenuatePass(pass: string, { grants, expires, notBefore }: Narrowing): string {
  parseGrants(grants);
  const { blocks, proof } = split(pass);
  if (!proof.startsWith("k.")) throw refuse("is sealed and cannot be narrowed further");
  if (blocks.length >= BLOCKS_MAX) throw refuse(`has ${blocks.length} blocks, which is as many as one may have`);
  const last = parseBlock<Block>(blocks.at(-1) ?? "", blocks.length === 1 ? FIRST : NEXT).payload;
  const text = blocks.join("~");
  const { jwk, secret } = nextKey();
  const block: NextBlock = {
    jti: newId(),
    prev: hash("sha256", text, "base64url"),
    grants,
    ...(expires === undefined ? {} : { exp: seconds(expires) }),
    ...(notBefore === undefined ? {} : { nbf: seconds(notBefore) }),
    cnf: { jwk },
  };
  return `${text}~${signBlock({ typ: NEXT }, block, secretKey(proof.slice(2), last.cnf.jwk.x))}~k.${secret}`;
}

/** Seals a pass: it can be shown, and narrowed no further. */
export function sealPass(pass: string): string {
  const { blocks, proof } = split(pass);
  if (!proof.startsWith("k.")) return pass;
  const last = parseBlock<Block>(blocks.at(-1) ?? "", blocks.length === 1 ? FIRST : NEXT).payload;
  const text = blocks.join("~");
  const signature = sign(null, Buffer.from(sealText(text)), secretKey(proof.slice(2), last.cnf.jwk.x));
  return `${text}~s.${signature.toString("base64url")}`;
}

/** What a pass says of itself, for people; nothing of it is verified. */
export function describePass(pass: string): readonly Readonly<Record<string, unknown>>[] {
  const { blocks } = split(pass);
  return blocks.map((block, at) => {
    const { cnf: _cnf, ...rest } = parseBlock<Block>(block, at === 0 ? FIRST : NEXT).payload;
    return rest;
  });
}

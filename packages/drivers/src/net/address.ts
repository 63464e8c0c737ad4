// Where names lead: to the internet, or to this machine and networks that are not for everybody.

import { type LookupAddress, type LookupAllOptions, type LookupOptions, lookup } from "node:dns";
import { BlockList, isIP } from "node:net";
import { networkInterfaces } from "node:os";
import { KernelError } from "@ergos/kernel";

/** Special-purpose addresses of IANA: of this host, private, shared, link-local, for tests and several receivers. */
const NOT_PUBLIC: readonly (readonly [string, number])[] = [
  ["0.0.0.0", 8],
  ["10.0.0.0", 8],
  ["100.64.0.0", 10],
  ["127.0.0.0", 8],
  ["169.254.0.0", 16],
  ["172.16.0.0", 12],
  ["192.0.0.0", 24],
  ["192.0.2.0", 24],
  ["192.168.0.0", 16],
  ["198.18.0.0", 15],
  ["198.51.100.0", 24],
  ["203.0.113.0", 24],
  ["224.0.0.0", 3],
];
/** The internet of IPv6; everything else there is for this host, this site, or several receivers. */
const GLOBAL: readonly [string, number] = ["2000::", 3];
/** Of that, what carries an address of IPv4 or is for documents. */
const NOT_GLOBAL: readonly (readonly [string, number])[] = [
  ["2001::", 23],
  ["2001:db8::", 32],
  ["2002::", 16],
  ["3fff::", 20],
];

/** The networks that this machine is in: its own addresses, and those of its neighbours. */
function neighbours(): BlockList {
  const list = new BlockList();
  for (const { address, cidr, family } of Object.values(networkInterfaces()).flatMap((one) => one ?? [])) {
    const bits = Number(cidr?.split("/")[1] ?? Number.NaN);
    const type = family === "IPv4" ? "ipv4" : "ipv6";
    if (bits > 0) list.addSubnet(address, bits, type);
    else list.addAddress(address, type);
  }
  return list;
}

/** Tells which addresses are on the internet: no special ones, and none of the networks that this machine is in. */
export function createPublicCheck(): (address: string) => boolean {
  const blocked = new BlockList();
  for (const [net, bits] of NOT_PUBLIC) blocked.addSubnet(net, bits, "ipv4");
  for (const [net, bits] of NOT_GLOBAL) blocked.addSubnet(net, bits, "ipv6");
  const global = new BlockList();
  global.addSubnet(...GLOBAL, "ipv6");
  // An address of IPv4 in one of IPv6 is looked at as what it is.
  const mapped = new BlockList();
  mapped.addSubnet("0.0.0.0", 0, "ipv4");
  return (address) => {
    const plain = address.replace(/%.*$/, "");
    const type = isIP(plain) === 4 ? "ipv4" : "ipv6";
    if (neighbours().check(plain, type)) return false;
    if (type === "ipv4") return !blocked.check(plain, type);
    if (blocked.check(plain, "ipv6")) return false;
    return global.check(plain, "ipv6") || mapped.check(plain, "ipv6");
  };
}

/** The name of a host as it is looked up: without its port, and without the brackets of an address. */
export const nameOf = (host: string): string => new URL(`http://${host}`).hostname.replaceAll(/[[\]]/g, "");

/** All addresses of a name; none where it has none now. */
export function addressesOf(name: string): Promise<readonly string[]> {
  if (isIP(name) !== 0) return Promise.resolve([name]);
  return new Promise((resolve) => {
    lookup(name, { all: true }, (error, found) => resolve(error === null ? found.map(({ address }) => address) : []));
  });
}

type Found = (
  error: NodeJS.ErrnoException | KernelError | null,
  address: string | LookupAddress[],
  family?: number,
) => void;

/** Looks names up for connections that go to the internet alone, whatever a name led to when it was asked for before. */
export function createPublicLookup(isPublic: (address: string) => boolean) {
  return (name: string, options: LookupOptions, found: Found): void => {
    const all: LookupAllOptions = { ...options, all: true };
    lookup(name, all, (error, addresses) => {
      if (error !== null) return found(error, []);
      const inside = addresses.find(({ address }) => !isPublic(address));
      if (inside !== undefined)
        return found(
          new KernelError("EACCES", `${name} leads to ${inside.address} now, which is not on the internet`),
          [],
        );
      const [first] = addresses;
      if (options.all === true || first === undefined) found(null, addresses);
      else found(null, first.address, first.family);
    });
  };
}

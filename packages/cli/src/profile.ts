// Profiles: how much of a host there is, as a table of services and drivers. What guards it (rights, policies, secrets, the
// audit trail) is in each; what a program misses is ENOTSUP when it asks for it.

import { KernelError } from "@ergos/kernel";

/** Drivers that a host may do without. */
export type OptionalDriver =
  | "calendar"
  | "control-socket"
  | "folder"
  | "model-openai"
  | "net"
  | "runtime-process"
  | "runtime-worker"
  | "zone";

export interface Profile {
  /** System libraries, by name. */
  readonly services: readonly string[];
  readonly drivers: readonly OptionalDriver[];
  /** Whether it has the tools over files and processes. */
  readonly tools: boolean;
}

const SLIM: Profile = { services: [], drivers: [], tools: false };
const EMBEDDED: Profile = { services: ["processes", "events"], drivers: ["folder", "calendar"], tools: true };
const LITE: Profile = {
  services: [...EMBEDDED.services, "entities", "scheduler", "queues"],
  drivers: [...EMBEDDED.drivers, "runtime-worker", "control-socket"],
  tools: true,
};
const FULL: Profile = {
  services: LITE.services,
  drivers: [...LITE.drivers, "net", "model-openai", "runtime-process", "zone"],
  tools: true,
};

/** Each has what the one before it has. */
export const PROFILES = { slim: SLIM, embedded: EMBEDDED, lite: LITE, full: FULL } as const satisfies Record<
  string,
  Profile
>;

/** With `remote` this process is no host: it talks to the one that runs. */
export const PROFILE_NAMES = [...Object.keys(PROFILES), "remote"] as readonly ProfileName[];
export type ProfileName = keyof typeof PROFILES | "remote";

/** @throws {ENOTSUP} the profile leaves it out */
export function assertHas(profile: Profile, driver: OptionalDriver, what: string): void {
  if (!profile.drivers.includes(driver))
    throw new KernelError("ENOTSUP", `${what}: the profile of this host has no ${driver}; connect with a larger one`);
}

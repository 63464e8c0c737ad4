// `@ergos/kernel/conformance`: the law of each contract, as data for any test runner.

export type { ConformanceCase } from "./case.ts";
export { CACHE_STORE_CASES } from "./cache-store.ts";
export { CALENDAR_CASES } from "./calendar.ts";
export { GOVERNANCE_CASES } from "./governance.ts";
export { METASTORE_CASES } from "./metastore.ts";
export { MODEL_CASES } from "./model.ts";
export { MOUNT_DRIVER_CASES } from "./mount-driver.ts";
export { NET_DRIVER_CASES, type NetSubject } from "./net-driver.ts";
export { OBJECT_STORE_CASES } from "./object-store.ts";
export { PASS_CASES, type PassSubject } from "./pass-authority.ts";
export { PLATFORM_CASES } from "./platform.ts";
export { RECORD_STORE_CASES } from "./record-store.ts";
export { SECRETS, SECRET_STORE_CASES } from "./secret-store.ts";

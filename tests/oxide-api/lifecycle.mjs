// An instance's whole life by Oxide's TypeScript SDK, unmodified: asked of the
// Nexus at OXIDE_HOST with OXIDE_TOKEN. Prints each request with its answer's
// status; a request that is answered otherwise than it should be ends it.

import Oxide from "@oxide/api"
import assert from "node:assert/strict"

const host = process.env.OXIDE_HOST
const { methods } = new Oxide({ host, token: process.env.OXIDE_TOKEN })

// What is on the wire, and not what the SDK makes of it.
const really = globalThis.fetch
globalThis.fetch = async (url, init) => {
  const answer = await really(url, init)
  const path = decodeURIComponent(url.slice(host.length)).replace(/page_token=[^&]+/, "page_token=…")
  console.log(`${init.method ?? "GET"} ${path} → ${answer.status}`)
  return answer
}

const GIB = 2 ** 30
const query = { project: "sdk" }

/** The data of an answer that says that it is done. */
async function done(asked) {
  const answer = await asked
  assert.equal(answer.type, "success", JSON.stringify(answer.data ?? answer.error))
  return answer.data
}

/** The code of an answer that refuses. */
async function refused(asked, status) {
  const answer = await asked
  assert.equal(answer.type, "error")
  assert.equal(answer.response.status, status)
  assert.ok(answer.data.message && answer.data.requestId, JSON.stringify(answer.data))
  return answer.data.errorCode
}

/** The instance, once it is in this state. Waits for each change. */
async function until(instance, state) {
  let view = await done(methods.instanceView({ path: { instance } }))
  for (let changes = 0; view.runState !== state; changes++) {
    assert.ok(changes < 20, `${view.runState}, not ${state}`)
    const wait = { waitForChange: view.viewGen, waitSeconds: 20 }
    view = await done(methods.instanceView({ path: { instance }, query: wait }))
  }
  return view
}

const me = await done(methods.currentUserView({}))
assert.equal(me.siloName, "main")
assert.ok(me.timeCreated instanceof Date)
await done(methods.projectCreate({ body: { name: "sdk", description: "by the SDK" } }))
assert.equal(
  await refused(methods.projectCreate({ body: { name: "sdk", description: "" } }), 400),
  "ObjectAlreadyExists",
)
const source = { type: "distributed", diskSource: { type: "blank", blockSize: 512 } }
const disk = (name) => ({ name, description: "", size: GIB, diskBackend: source })
const shape = {
  name: "db",
  description: "a database",
  hostname: "db",
  ncpus: 2,
  memory: 2 * GIB,
  bootDisk: { type: "create", ...disk("db-boot") },
  disks: [],
  networkInterfaces: { type: "default_ipv4" },
  externalIps: [],
  userData: "",
  start: true,
}
const { id } = await done(methods.instanceCreate({ query, body: shape }))
await refused(
  methods.instanceCreate({ query, body: { ...shape, name: "odd", memory: GIB + 1 } }),
  400,
)
const running = await until(id, "running")
assert.equal(running.memory, 2 * GIB)
assert.equal(running.intendedState, "running")

// Disks come and go; snapshots; groups.
await done(methods.diskCreate({ query, body: disk("data") }))
await refused(
  methods.instanceDiskAttach({ path: { instance: "db" }, query, body: { disk: "data" } }),
  400,
)
await done(methods.instanceStop({ path: { instance: id } }))
await until(id, "stopped")
await done(methods.instanceDiskAttach({ path: { instance: "db" }, query, body: { disk: "data" } }))
const disks = await done(methods.instanceDiskList({ path: { instance: id }, query: {} }))
assert.deepEqual(disks.items.map((d) => d.name).sort(), ["data", "db-boot"])
await done(methods.instanceDiskDetach({ path: { instance: "db" }, query, body: { disk: "data" } }))
await done(methods.snapshotCreate({ query, body: { name: "shot", description: "", disk: "data" } }))
await done(
  methods.antiAffinityGroupCreate({
    query,
    body: { name: "apart", description: "", policy: "allow", failureDomain: "sled" },
  }),
)
await done(
  methods.antiAffinityGroupMemberInstanceAdd({
    path: { antiAffinityGroup: "apart", instance: "db" },
    query,
  }),
)
await done(
  methods.instanceUpdate({
    path: { instance: id },
    body: { ncpus: 4, memory: 4 * GIB, bootDisk: "db-boot", autoRestartPolicy: "never", cpuPlatform: null },
  }),
)

// Again, larger; its console.
await done(methods.instanceStart({ path: { instance: id } }))
assert.equal((await until(id, "running")).ncpus, 4)
await done(methods.instanceReboot({ path: { instance: id } }))
await until(id, "running")
const serial = { path: { instance: id }, query: { fromStart: 0, maxBytes: 1000 } }
assert.ok(Array.isArray((await done(methods.instanceSerialConsole(serial))).data))

// All of a list, page by page, as the SDKs do it: the token and nothing else.
for (const name of ["one", "two", "three"]) await done(methods.diskCreate({ query, body: disk(name) }))
const names = []
let page = await done(methods.diskList({ query: { ...query, limit: 2 } }))
names.push(...page.items.map((d) => d.name))
while (page.nextPage) {
  page = await done(methods.diskList({ query: { limit: 2, pageToken: page.nextPage } }))
  names.push(...page.items.map((d) => d.name))
}
assert.deepEqual(names, ["data", "db-boot", "one", "three", "two"])

// What there is none of is an empty page, and not an error.
assert.deepEqual((await done(methods.floatingIpList({ query }))).items, [])
assert.equal(await refused(methods.vpcCreate({ query, body: { name: "v", description: "", dnsName: "v" } }), 501), "NotImplemented")

// And away.
await refused(methods.instanceDelete({ path: { instance: id } }), 400)
await done(methods.instanceStop({ path: { instance: id } }))
await until(id, "stopped")
await done(methods.instanceDelete({ path: { instance: id } }))
await refused(methods.instanceView({ path: { instance: id } }), 404)
await done(methods.antiAffinityGroupDelete({ path: { antiAffinityGroup: "apart" }, query }))
await done(methods.snapshotDelete({ path: { snapshot: "shot" }, query }))
for (const name of names) await done(methods.diskDelete({ path: { disk: name }, query }))
await done(methods.projectDelete({ path: { project: "sdk" } }))

const stranger = new Oxide({ host, token: "oxide-token-0000" })
assert.equal(await refused(stranger.methods.projectList({}), 401), "Unauthorized")

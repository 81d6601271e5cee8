export default async function globalTeardown(): Promise<void> {
  await Promise.all([globalThis.testServers?.postgres?.stop(), globalThis.testServers?.redis?.stop()]);
}

import { memoryStore } from '../../lib/stores/memory/memory-store.js';
import { describeStoreContract, fakeClock } from '../../lib/testing/index.js';

describeStoreContract('memoryStore', async () => {
  const clock = fakeClock();
  return { store: memoryStore({ clock }), advance: (ms) => clock.advance(ms) };
});

describeStoreContract('memoryStore on the real clock', async () => ({ store: memoryStore() }));

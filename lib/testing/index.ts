export { fakeClock, type FakeClock } from './fake-clock.js';
export { describeStoreContract, type ContractRunner, type StoreUnderTest } from './store-contract.js';

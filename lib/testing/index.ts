export { fakeClock, type FakeClock } from './fake-clock.js';
export {
  faultStore,
  type FaultCall,
  type FaultControls,
  type FaultMethod,
  type FaultPlan,
  type FaultPoint,
  type FaultsAt,
  type FaultSelector,
  type FaultsOn,
} from './fault-store.js';
export {
  describeStoreContract,
  type ContractOptions,
  type ContractRunner,
  type OptionalPart,
  type StoreUnderTest,
} from './store-contract.js';

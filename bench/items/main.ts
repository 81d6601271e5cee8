import 'reflect-metadata';
import { serve } from '../server/control.js';
import { endJobs, runItems, type ItemsRound } from './items.js';

// A job in a process of its own, with no server.
serve(0, { items: (about) => runItems(about as ItemsRound) }, endJobs);

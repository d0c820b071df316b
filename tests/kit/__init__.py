"""What the tests stand on: real servers, a proxy that breaks things, and objects that careless tools lose."""

//! The fake as its users meet it: through the AWS SDK, through botocore, through sockets, and through its control
//! endpoint.
// A helper of a test may fail as the test may; the allowance for tests covers only the tests themselves.
#![allow(clippy::unwrap_used)]

mod botocore;
mod control;
mod faults;
mod sdk;
mod support;
mod wire;

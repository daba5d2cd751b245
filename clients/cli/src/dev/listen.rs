//! Where `dev` listens: on loopback, because its key travels in the clear; at the usual ports, or others that are free.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use crate::output::{Failure, Output, WARNING};

/// As the node's own default.
const CALLERS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// As the node's own default.
const ADMIN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// As the control plane's own default.
const CONTROL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7070);

/// Where operators and nodes reach the control plane.
pub(super) fn control(given: Option<SocketAddr>, output: Output) -> Result<SocketAddr, Failure> {
    address("--control-listen", given, CONTROL, output)
}

/// Where callers come in.
pub(super) fn callers(given: Option<SocketAddr>, output: Output) -> Result<SocketAddr, Failure> {
    address("--listen", given, CALLERS, output)
}

/// Where the admin port is.
pub(super) fn admin(given: Option<SocketAddr>, output: Output) -> Result<SocketAddr, Failure> {
    address("--admin-listen", given, ADMIN, output)
}

fn address(flag: &str, given: Option<SocketAddr>, usual: SocketAddr, output: Output) -> Result<SocketAddr, Failure> {
    match given {
        Some(given) if given.ip().is_loopback() => Ok(given),
        Some(given) => Err(Failure::usage(format!(
            "{flag} {given} is not loopback, and `dev` serves in the clear with a key that it prints"
        ))
        .next("listen on 127.0.0.1 or [::1]; for others, run `switchtower-node` with a certificate")),
        // Whoever takes the port between this look and the node's own bind is told of by the node.
        None => match TcpListener::bind(usual) {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                output.note(format!("{WARNING}{usual} is taken{WARNING:#}: another port is used; {flag} chooses one"));
                Ok(SocketAddr::new(usual.ip(), 0))
            }
            _ => Ok(usual),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Exit, Format};

    #[test]
    fn only_loopback_is_listened_on() {
        let check = |given: &str, expected: Result<(), Exit>| {
            let address = callers(Some(given.parse().unwrap()), Output::new(Format::Json));
            assert_eq!(address.map(drop).map_err(|failure| failure.exit), expected, "{given}");
        };
        check("127.0.0.1:8080", Ok(()));
        check("127.1.2.3:0", Ok(()));
        check("[::1]:8080", Ok(()));
        check("0.0.0.0:8080", Err(Exit::Usage));
        check("[::]:8080", Err(Exit::Usage));
        check("192.168.0.1:8080", Err(Exit::Usage));
    }

    #[test]
    fn a_port_that_is_taken_is_left_alone_unless_it_was_asked_for() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let holder = TcpListener::bind(taken).unwrap();
        let output = Output::new(Format::Json);
        assert_eq!(address("--listen", None, taken, output).unwrap().port(), 0);
        assert_eq!(address("--listen", Some(taken), CALLERS, output).unwrap(), taken);
        drop(holder);
        assert_eq!(address("--listen", None, taken, output).unwrap(), taken);
    }
}

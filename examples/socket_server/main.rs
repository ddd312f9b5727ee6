//! The document's socket server: receives from one client. Arguments: port (8080) and interface (all).

use std::time::Duration;

use wigwag::{Listener, SocketOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let patience = Timeout::After(Duration::from_secs(10));
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or("8080".into());
    let interface = arguments.next().unwrap_or_default();
    let options = SocketOptions { backlog: 5, ..SocketOptions::default() };
    let listener = Listener::open(&format!("tcp://{interface}:{port}").parse()?, &options, patience)?;
    eprintln!("Listening at {}", listener.local_address()?);

    let client = listener.accept(Timeout::Forever)?;
    let mut buffer = [0; 1024];
    let length = client.recv(&mut buffer, patience)?;
    println!("Received: {}", String::from_utf8_lossy(&buffer[..length]));
    Ok(())
}

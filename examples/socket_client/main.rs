//! A client for the document's socket server. Arguments: port (8080), host (this one) and text.

use std::time::Duration;

use wigwag::{Socket, SocketOptions, Timeout};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let patience = Timeout::After(Duration::from_secs(10));
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().unwrap_or("8080".into());
    let host = arguments.next().unwrap_or_default();
    let text = arguments.next().unwrap_or("Hello from client".into());
    let server = Socket::connect(&format!("tcp://{host}:{port}").parse()?, &SocketOptions::default(), patience)?;
    server.send_all(text.as_bytes(), patience)?;
    println!("Sent: {text}");
    Ok(())
}

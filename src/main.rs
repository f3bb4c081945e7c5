fn main() {
    println!("stockroom");
}

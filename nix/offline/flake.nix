# Stands in for nixpkgs on a machine that reaches neither GitHub nor a binary cache: it answers to the
# attributes and arguments that Stockroom's flake uses, over the host's own compiler and tools, and to
# nothing else. `nix/offline/build` and `nix/offline/nix` put it in nixpkgs' place.
{
  description = "What Stockroom's flake asks of nixpkgs, over a Debian machine's own tools";

  outputs =
    _:
    let
      lib = import ./lib.nix;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "x86_64-linux"
        "aarch64-linux"
        "aarch64-darwin"
      ] (system: import ./packages.nix { inherit lib system; });
    };
}

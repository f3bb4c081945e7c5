{
  description = "Stockroom: an inventory service with exact stock, and a container image that holds nothing but its binary";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;

      linuxSystems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      forSystems = systems: f: lib.genAttrs systems (system: f nixpkgs.legacyPackages.${system});
      forLinux = forSystems linuxSystems;
      forDevelopers = forSystems (linuxSystems ++ [ "aarch64-darwin" ]);

      packagesFor = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
    in
    {
      overlays.default = final: _prev: {
        stockroom = final.callPackage ./nix/package.nix { };
      };

      packages = forLinux (
        pkgs:
        let
          stockroom = pkgs.callPackage ./nix/package.nix { };
        in
        {
          default = stockroom;
          inherit stockroom;
          image = pkgs.callPackage ./nix/image.nix { inherit stockroom; };
        }
      );

      apps = forLinux (pkgs: {
        default = {
          type = "app";
          program = lib.getExe (packagesFor pkgs).stockroom;
          meta.description = "Serve the inventory on 127.0.0.1:8080, from ./stockroom.db";
        };
      });

      devShells = forDevelopers (pkgs: {
        default = pkgs.callPackage ./nix/shell.nix {
          stockroom = pkgs.callPackage ./nix/package.nix { };
        };
      });

      formatter = forDevelopers (pkgs: pkgs.nixfmt-tree);

      checks = forLinux (
        pkgs:
        import ./nix/checks.nix {
          inherit pkgs;
          inherit (packagesFor pkgs) stockroom image;
        }
      );
    };
}

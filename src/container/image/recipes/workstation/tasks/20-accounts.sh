set -eu
usermod -aG sudo plindner
usermod -c 'Paul Lindner' plindner
usermod -c 'Anja Krause' akrause

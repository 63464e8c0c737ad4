export default (): number => 1;
